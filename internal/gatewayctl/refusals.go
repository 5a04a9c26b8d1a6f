package gatewayctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// refusal is somebody who was refused or limited, over all nodes.
type refusal struct {
	audit.Refusal
	Nodes []string `json:"nodes"`
}

// refusals are those of the last hour.
type refusals struct {
	Total     int                `json:"total"` // groups, of which Refusals are the first
	Refusals  []refusal          `json:"refusals"`
	Forgotten int                `json:"forgotten,omitempty"`
	Silent    []operation.Member `json:"silent"`
}

// groupings say what refusals are put together by.
var groupings = map[string]func(*audit.Refusal){
	"all":          func(*audit.Refusal) {},
	"reason":       func(r *audit.Refusal) { r.Address, r.Orchestrator = "", "" },
	"address":      func(r *audit.Refusal) { r.Act, r.Reason, r.Orchestrator = "", "", "" },
	"orchestrator": func(r *audit.Refusal) { r.Act, r.Reason, r.Address = "", "", "" },
}

// refusalQuery says which refusals are shown, and how.
type refusalQuery struct {
	group string
	since time.Duration
	limit int
}

func (p *program) refusalsCommand() *cobra.Command {
	var q refusalQuery
	c := &cobra.Command{
		Use:   "refusals",
		Short: "Show who was refused, limited or over a limit within the last hour, and why",
		Long: "Show who was refused, limited or over a limit within the last hour, and why, those with most refusals first. Each node remembers 1,000 " +
			"of them by reason, address and orchestrator, and how often each came, also where that was too often for its audit log. " +
			"Whose token was refused is who they claim to be.",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&q.group, "group", "all", "put together by reason, address or orchestrator alone")
	c.Flags().DurationVar(&q.since, "since", time.Hour, "those that came last within this time")
	c.Flags().IntVar(&q.limit, "limit", 50, "how many to show")
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if groupings[q.group] == nil {
			return usageError{fmt.Errorf("--group %s: expected all, reason, address or orchestrator", q.group)}
		}
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) {
			return askRefusals(ctx, client, q)
		})
	}
	return c
}

func askRefusals(ctx context.Context, client *operation.Client, q refusalQuery) (refusals, error) {
	answers, err := client.Ask(ctx, operation.Refusals, struct{}{}, operation.Tiers...)
	if err != nil {
		return refusals{}, err
	}
	found := refusals{Silent: orNone(answers.Silent)}
	groups := map[audit.Refusal]*refusal{}
	oldest := time.Now().Add(-q.since)
	err = operation.Each(answers, func(of operation.Member, report audit.Refusals) {
		found.Forgotten += report.Forgotten
		for _, r := range report.Refusals {
			if r.Last.After(oldest) {
				gather(groups, q.group, of.Node, r)
			}
		}
	})
	for _, r := range groups {
		found.Refusals = append(found.Refusals, *r)
	}
	slices.SortFunc(found.Refusals, func(a, b refusal) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.Last.Compare(a.Last), cmp.Compare(a.Reason, b.Reason),
			cmp.Compare(a.Address, b.Address), cmp.Compare(a.Orchestrator, b.Orchestrator))
	})
	found.Total = len(found.Refusals)
	found.Refusals = orNone(found.Refusals[:min(found.Total, max(q.limit, 0))])
	return found, err
}

// gather adds what a node says to its group.
func gather(groups map[audit.Refusal]*refusal, by, node string, r audit.Refusal) {
	key := audit.Refusal{Act: r.Act, Reason: r.Reason, Address: r.Address, Orchestrator: r.Orchestrator}
	groupings[by](&key)
	g := groups[key]
	if g == nil {
		g = &refusal{Refusal: key}
		g.First, groups[key] = r.First, g
	}
	g.Count += r.Count
	if r.First.Before(g.First) {
		g.First = r.First
	}
	if r.Last.After(g.Last) {
		g.Last = r.Last
	}
	if !slices.Contains(g.Nodes, node) {
		g.Nodes = append(g.Nodes, node)
	}
}

func (f refusals) unwell() error { return silence(f.Silent) }

func (f refusals) print(w io.Writer) {
	now := time.Now()
	row(w, "COUNT", "LAST", "ACT", "REASON", "ADDRESS", "ORCHESTRATOR", "NODES")
	for _, r := range f.Refusals {
		row(w, fmt.Sprint(r.Count), age(now, r.Last), dash(string(r.Act)), dash(r.Reason), dash(r.Address), dash(r.Orchestrator), strings.Join(r.Nodes, " "))
	}
	if len(f.Refusals) < f.Total {
		fmt.Fprintf(w, "%d of %d; --limit shows more\n", len(f.Refusals), f.Total)
	}
	if f.Forgotten > 0 {
		fmt.Fprintf(w, "%d older refusals were forgotten to make room\n", f.Forgotten)
	}
	silent(w, f.Silent)
}
