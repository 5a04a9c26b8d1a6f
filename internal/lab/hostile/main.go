// Command hostile measures what hostile clients cost an edge and its other
// daemons: it runs a cluster of processes with well-behaved daemons under a
// steady rate of events, has one attack after the other on their edge, and
// prints, as Markdown, memory and CPU of the edge and the latency of the others
// without and with each attack. In the end all events of the others must have
// arrived, or the exit code is 1.
//
// The attackers share the machine with the edge and with everything else, so
// that a flood slows the others by the mere CPU that it takes to make it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/attack"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

type options struct {
	daemons, rate int
	calm, attack  time.Duration
	attacks       string
}

func main() {
	var o options
	flag.IntVar(&o.daemons, "daemons", 100, "well-behaved daemons, each of its own orchestrator, on the edge that is attacked")
	flag.IntVar(&o.rate, "rate", 100, "events a second for the well-behaved daemons")
	flag.DurationVar(&o.calm, "calm", 8*time.Second, "how long latency is measured before each attack")
	flag.DurationVar(&o.attack, "attack", 20*time.Second, "how long each attack takes")
	flag.StringVar(&o.attacks, "attacks", "*", "which attacks, as a comma-separated list of names or patterns such as acks-*; \"list\" lists them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	chosen, err := choose(o.attacks)
	if err != nil {
		return err
	}
	if o.attacks == "list" {
		for _, a := range attack.All() {
			fmt.Printf("%-22s %s\n", a.Name, a.What)
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "gateway-hostile")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Println("building…")
	binaries, err := cluster.Build(ctx, filepath.Join(dir, "bin"))
	if err != nil {
		return err
	}
	w, err := newWorld(ctx, o, binaries, dir)
	if err != nil {
		return err
	}
	defer w.close()
	table := newTable(o)
	for _, a := range chosen {
		m, err := w.measure(ctx, a)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", a.Name, err, w.Report(20))
		}
		fmt.Printf("%s: %s\n", a.Name, m)
		table.add(a, m)
	}
	verdict := w.judge(ctx)
	return errors.Join(table.print(os.Stdout), verdict)
}

// choose returns the attacks whose names match one of the patterns.
func choose(patterns string) ([]attack.Attack, error) {
	var chosen []attack.Attack
	for _, a := range attack.All() {
		for _, pattern := range strings.Split(patterns, ",") {
			matches, err := path.Match(strings.TrimSpace(pattern), a.Name)
			if err != nil {
				return nil, fmt.Errorf("-attacks %q: %w", pattern, err)
			}
			if matches {
				chosen = append(chosen, a)
				break
			}
		}
	}
	if len(chosen) == 0 && patterns != "list" {
		return nil, fmt.Errorf("-attacks %q matches none; see -attacks list", patterns)
	}
	return chosen, nil
}
