package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9/logging"
)

// Scenario is one way to try the gateway.
type Scenario struct {
	// Name is how it is called, and What is what it shows.
	Name, What string
	// Takes is how long it takes by default, and Page where its table is shown.
	Takes, Page string
	// Network says that it cuts links where the machine allows that.
	Network bool
	// New registers what the scenario can be told, and returns what it does.
	New func(flags *flag.FlagSet) Run
}

// Run is a scenario from the beginning to the table. The world has no cluster
// yet. An error says that the run came to nothing; what the gateway did wrong is
// a finding of the world.
type Run func(ctx context.Context, w *World) error

// The exit codes of a run.
const (
	good   = 0
	found  = 1 // there are findings
	failed = 2
)

// Main runs the scenario that the arguments name, and returns the exit code.
func Main(args []string, all ...Scenario) int {
	name, rest := "", args
	if len(args) > 0 {
		name, rest = args[0], args[1:]
	}
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		fmt.Print(list(all))
		if name == "list" {
			return good
		}
		return failed
	}
	return all[i].main(rest)
}

// list says which scenarios there are.
func list(all []Scenario) string {
	t := NewTable("scenario", "what it shows", "takes", "table in")
	for _, s := range all {
		t.Row(s.Name, s.What, s.Takes, s.Page)
	}
	var b strings.Builder
	_ = t.Print(&b)
	return "lab SCENARIO [flags] tries the gateway; lab SCENARIO -h lists the flags.\n" + b.String()
}

func (s Scenario) main(args []string) int {
	flags := flag.NewFlagSet("lab "+s.Name, flag.ContinueOnError)
	g := newGround(s, flags)
	run := s.New(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return good
	case err != nil:
		return failed // it has been told
	}
	if list, asked := ask(flags); asked {
		fmt.Print(list)
		return good
	}
	logging.Disable() // it tells of every attempt to reach a Redis that is not there
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	findings, err := s.run(ctx, g, run)
	for _, text := range findings {
		fmt.Printf("\n==== %s\n", text)
	}
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "lab %s: %v\n", s.Name, err)
		return failed
	case len(findings) > 0:
		fmt.Printf("\n%d FINDINGS\n", len(findings))
		return found
	}
	fmt.Println("\nno findings")
	return good
}

// run is one run from the building of the programs to the findings.
func (s Scenario) run(ctx context.Context, g *ground, run Run) (findings []string, err error) {
	w, err := g.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if g.dir == "" && err == nil && len(findings) == 0 {
			_ = os.RemoveAll(w.Dir)
		}
	}()
	fmt.Printf("%s, seed %d, logs in %s\n", s.Name, w.Seed, w.Dir)
	w.began = time.Now()
	defer w.Close()
	if err = run(ctx, w); err == nil {
		err = ctx.Err()
	}
	if w.Cluster == nil {
		return w.Findings(), err
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, w.Report(20))
	}
	return append(w.Findings(), w.Crashes()...), err
}

// ask returns the list of what one of the flags selects from, if that was asked for.
func ask(flags *flag.FlagSet) (list string, asked bool) {
	flags.Visit(func(f *flag.Flag) {
		if s, ok := f.Value.(interface{ listed() (string, bool) }); ok && !asked {
			list, asked = s.listed()
		}
	})
	return list, asked
}
