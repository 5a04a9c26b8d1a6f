package gatewayctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/probe"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// job is a command that is configured as nodes are: each of its settings is a flag and an
// environment variable. It logs, and asks no node.
type job struct {
	short   string
	program settings.Program
	// byContext is whether it reaches NATS as other commands do; others have what
	// they reach in settings of their own.
	byContext bool
	// mayEnd is whether whoever interrupts it may have had what he wanted of it.
	mayEnd bool
	run    func(ctx context.Context, out, log io.Writer) error
}

// name is that of the command: "backup".
func (j job) name() string { return strings.TrimPrefix(j.program.Name, "gatewayctl ") }

func backupJob() job {
	var cfg backup.Config
	return job{"Take a backup of the gateway's streams, while it runs", cfg.Program(), true, false, func(ctx context.Context, _, log io.Writer) error {
		return backup.Run(ctx, cfg, cfg.Logger(log))
	}}
}

func restoreJob() job {
	var cfg backup.RestoreConfig
	return job{"Restore a backup of the gateway's streams, while no node of it runs", cfg.Program(), true, false, func(ctx context.Context, _, log io.Writer) error {
		return backup.RunRestore(ctx, cfg, cfg.Logger(log))
	}}
}

func probeJob() job {
	var cfg probe.Config
	return job{"Try a running gateway end to end: once, or under load", cfg.Program(), false, true, func(ctx context.Context, out, log io.Writer) error {
		return probe.Run(ctx, cfg, out, cfg.Logger(log))
	}}
}

// given is a setting's flag: what was given for it, in this order.
type given struct {
	settings.Flag
	values []string
}

func (g *given) Set(value string) error { g.values = append(g.values, value); return nil }
func (g *given) String() string         { return "" }
func (g *given) Type() string {
	switch {
	case g.Switch:
		return "bool"
	case len(g.Choices) > 0:
		return "string"
	}
	return strings.ReplaceAll(strings.ReplaceAll(g.Flag.Type, "list of ", ""), " ", "-")
}

// usage is what --help says of it.
func (g *given) usage() string {
	note := g.Setting
	if g.Note != "" {
		note += ", " + g.Note
	}
	return strings.TrimSpace(g.Help + " (" + note + ")")
}

// args are the arguments that package settings takes for it.
func (g *given) args() (list []string) {
	for _, value := range g.values {
		list = append(list, "--"+g.Name+"="+value)
	}
	return list
}

// errOtherwise is that a flag of other commands was given.
var errOtherwise = errors.New("means nothing here")

// refused is a flag of all commands that means nothing to this one.
type refused struct{}

func (refused) Set(string) error { return errOtherwise }
func (refused) String() string   { return "" }
func (refused) Type() string     { return "" }

// jobCommand makes a command of a job.
func (p *program) jobCommand(j job, root *cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: j.name(), Short: j.short, Args: cobra.NoArgs, Example: "  " + strings.ReplaceAll(j.program.Example, "\n", "\n  "),
		Long: j.program.Description + " Each flag is an environment variable as well, whose name stands behind it; a flag wins. Exit code 2 is for mistakes in them.",
	}
	all, err := settings.Flags(j.program)
	if err != nil {
		panic(err) // tags of a struct that are wrong
	}
	var own []*given
	for _, f := range all {
		if j.byContext && root.PersistentFlags().Lookup(f.Name) != nil {
			continue
		}
		own = append(own, addGiven(c, f))
	}
	j.refuseOthers(c, root)
	printConfig := c.Flags().Bool("print-config", false, "check the settings and show those in force, with secrets masked")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var args []string
		if j.byContext {
			args = slices.Clone(p.flags)
		}
		for _, g := range own {
			args = append(args, g.args()...)
		}
		if *printConfig {
			args = append(args, "--print-config")
		}
		return p.runJob(cmd.Context(), j, args)
	}
	return c
}

// addGiven makes a flag of a setting.
func addGiven(c *cobra.Command, f settings.Flag) *given {
	g := &given{Flag: f}
	flag := c.Flags().VarPF(g, f.Name, "", g.usage())
	flag.DefValue, flag.Hidden = f.Default, f.Hidden
	if f.Switch {
		flag.NoOptDefVal = "true"
	}
	if len(f.Choices) > 0 {
		_ = c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(f.Choices, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there
	}
	return g
}

// refuseOthers hides and refuses those flags of all commands that say how nodes are asked
// and answers shown, and where the job has no use for them where NATS is.
func (j job) refuseOthers(c, root *cobra.Command) {
	others := []string{"output", "timeout"}
	if !j.byContext {
		others = append(others, "context")
		for _, f := range natsFlags {
			others = append(others, f.name)
		}
	}
	for _, name := range others {
		if c.Flags().Lookup(name) == nil {
			c.Flags().VarPF(refused{}, name, root.PersistentFlags().Lookup(name).Shorthand, "").Hidden = true
		}
	}
}

// runJob reads the settings and does it.
func (p *program) runJob(ctx context.Context, j job, args []string) error {
	environ := p.environ
	if j.byContext {
		var err error
		if environ, err = p.reach(); err != nil {
			return err
		}
	}
	if code, proceed := settings.Prepare(j.program, args, environ, p.environment, p.out, p.err); !proceed {
		return told(code)
	}
	// Who reads our log may be started again, as journald is.
	signal.Ignore(syscall.SIGPIPE)
	err := j.run(ctx, p.out, p.err)
	switch {
	case !errors.Is(err, context.Canceled):
		return err
	case j.mayEnd:
		return nil
	}
	return errors.New("interrupted: what it was to do is not done")
}

// told is the exit code of what has said already what there was to say.
type told int

func (c told) Error() string { return fmt.Sprintf("ends with %d", int(c)) }

// formerly are the names by which jobs were called as programs of their own, which are
// links to this program.
var formerly = map[string]string{"gateway-backup": "backup", "gateway-restore": "restore", "gateway-probe": "probe"}

// calledAs returns the arguments that stand for a call by this name. Programs of the old
// names knew of no contexts: they must not come to another cluster by one.
func (p *program) calledAs(name string, args []string) []string {
	command, old := formerly[name]
	if !old || slices.Contains(args, "--version") {
		return args
	}
	p.contextless = true
	fmt.Fprintf(p.err, "%s: this is gatewayctl %s now, and a later release comes without the old name\n", name, command)
	args = slices.Clone(args)
	for i, arg := range args {
		if arg == "--nats-tls-first" { // needed no value, and would take the next flag for it
			args[i] = arg + "=true"
		}
	}
	return append([]string{command}, args...)
}
