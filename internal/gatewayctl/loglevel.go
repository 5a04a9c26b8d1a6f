package gatewayctl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/logbook"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// levels are the changes of log levels that are in force.
type levels struct {
	Nodes  []nodeLevels       `json:"nodes"`
	Silent []operation.Member `json:"silent"`
}

type nodeLevels struct {
	operation.Member
	Changes []logbook.Change `json:"changes"`
}

func (l levels) unwell() error { return silence(l.Silent) }

func (l levels) print(w io.Writer) {
	now := time.Now()
	row(w, "TIER", "NODE", "LEVEL", "OF", "ENDS IN")
	for _, n := range l.Nodes {
		if len(n.Changes) == 0 {
			row(w, string(n.Tier), n.Node, "as configured", "-", "-")
		}
		for _, c := range n.Changes {
			row(w, string(n.Tier), n.Node, strings.ToLower(c.Level.String()), target(c.Target), age(c.Until, now))
		}
	}
	silent(w, l.Silent)
}

// target says whose lines a change is about.
func target(t logbook.Target) string {
	var words []string
	if t.Orchestrator != "" {
		words = append(words, "orchestrator "+t.Orchestrator)
	}
	if t.Daemon != "" {
		words = append(words, "daemon "+t.Daemon)
	}
	if len(words) == 0 {
		return "the whole node"
	}
	return strings.Join(words, ", ")
}

// reset is said instead of a level, to end a change.
const reset = "reset"

func (p *program) logLevelCommand() *cobra.Command {
	var r operation.LogLevelRequest
	var lasts time.Duration
	c := &cobra.Command{
		Use:   "log-level [debug|info|warn|error|reset]",
		Short: "Show or change which lines nodes log",
		Long: "Show or change which lines nodes log. A change goes back by itself. For one orchestrator or daemon it adds lines of that one, and " +
			"takes none away; no change keeps the audit log out. Without a level it shows the changes in force.",
		Args: cobra.MaximumNArgs(1), ValidArgs: append([]string{reset}, logbook.Levels...),
	}
	a := p.actFlags(c)
	c.Flags().Lookup("because").Usage = "why, for the audit log (required for a change)"
	c.Flags().DurationVar(&lasts, "for", logbook.DefaultTime, "for how long, at most 24h")
	c.Flags().StringSliceVar(&r.Nodes, "node", nil, "nodes that heed it; none: all")
	c.Flags().StringVar(&r.Orchestrator, "orchestrator", "", "lines of one orchestrator alone")
	c.Flags().StringVar(&r.Daemon, "daemon", "", "lines of one daemon alone")
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		r.Show, r.Act = len(args) == 0, a.Act
		if !r.Show {
			if err := p.prepareLevel(a, &r, args[0], lasts); err != nil {
				return err
			}
		}
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) {
			found, err := askLevels(ctx, client, r)
			r.Show = true // a watch changes it once
			return found, err
		})
	}
	return c
}

// prepareLevel checks a change, and has it confirmed.
func (p *program) prepareLevel(a *act, r *operation.LogLevelRequest, level string, lasts time.Duration) error {
	if err := a.check(); err != nil {
		return err
	}
	of := target(r.Target)
	if len(r.Nodes) > 0 {
		of += " on " + strings.Join(r.Nodes, ", ")
	}
	if r.Reset = level == reset; r.Reset {
		return p.confirm(a, "Log as configured, %s", of)
	}
	r.Level, r.For = level, lasts.String()
	if _, err := r.Change(time.Now()); err != nil {
		return usageError{err}
	}
	return p.confirm(a, "Log at level %s for %s, %s", level, lasts, of)
}

func askLevels(ctx context.Context, client *operation.Client, r operation.LogLevelRequest) (levels, error) {
	answers, err := client.Ask(ctx, operation.LogLevel, r, operation.Tiers...)
	if err != nil {
		return levels{}, err
	}
	found := levels{Nodes: []nodeLevels{}, Silent: orNone(answers.Silent)}
	err = operation.Each(answers, func(of operation.Member, report operation.LogLevelReport) {
		if report.Heeded {
			found.Nodes = append(found.Nodes, nodeLevels{of, orNone(report.Changes)})
		}
	})
	if err == nil && len(found.Nodes) == 0 {
		err = fmt.Errorf("no node named %s has answered", strings.Join(r.Nodes, ", "))
	}
	return found, err
}
