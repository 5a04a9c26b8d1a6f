package gatewayctl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// connection is one with the edge that holds it.
type connection struct {
	Edge string `json:"edge"`
	operation.Connection
}

// connections are those that were asked for.
type connections struct {
	// Total is how many there are, of which Connections are the first.
	Total       int                `json:"total"`
	Connections []connection       `json:"connections"`
	Silent      []operation.Member `json:"silent"`
}

func (p *program) connectionsCommand() *cobra.Command {
	var r operation.ConnectionsRequest
	c := &cobra.Command{
		Use:   "connections",
		Short: "Show who is connected where, since when, from where, to what, what is unsettled, and when the token ends",
		Args:  cobra.NoArgs,
	}
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) {
			return askConnections(ctx, client, r)
		})
	}
	selectionFlags(c, &r.Selection)
	c.Flags().StringVar(&r.Sort, "sort", operation.Orders[0], "order: "+strings.Join(operation.Orders, ", "))
	c.Flags().IntVar(&r.Limit, "limit", 100, fmt.Sprintf("how many to show, at most %d of each edge", operation.MaxConnections))
	return c
}

// selectionFlags adds the flags that say which connections are meant.
func selectionFlags(c *cobra.Command, s *operation.Selection) {
	c.Flags().StringVar(&s.Edge, "edge", "", "those of one edge, by its node name")
	c.Flags().StringVar(&s.Orchestrator, "orchestrator", "", "those of one orchestrator")
	c.Flags().StringVar(&s.Daemon, "daemon", "", "those of one daemon id")
	c.Flags().StringVar(&s.Session, "session", "", "that of one session")
	c.Flags().StringVar(&s.Address, "address", "", "those from an IP address, or a range such as 10.0.0.0/8")
}

func askConnections(ctx context.Context, client *operation.Client, r operation.ConnectionsRequest) (connections, error) {
	answers, err := client.Ask(ctx, operation.Connections, r, operation.Edge)
	if err != nil {
		return connections{}, err
	}
	found := connections{Connections: []connection{}, Silent: orNone(answers.Silent)}
	edges := map[string]string{} // by session
	var all []operation.Connection
	err = operation.Each(answers, func(of operation.Member, report operation.ConnectionsReport) {
		found.Total += report.Total
		for _, c := range report.Connections {
			edges[c.Session] = of.Node
			all = append(all, c)
		}
	})
	if err != nil {
		return connections{}, err
	}
	if err := operation.Order(all, r.Sort); err != nil {
		return connections{}, err
	}
	for _, c := range all[:min(len(all), max(r.Limit, 0))] {
		found.Connections = append(found.Connections, connection{edges[c.Session], c})
	}
	return found, nil
}

func (f connections) unwell() error { return silence(f.Silent) }

func (f connections) print(w io.Writer) {
	now := time.Now()
	row(w, "EDGE", "ORCHESTRATOR", "DAEMON", "ADDRESS", "STATE", "FOR", "UNSETTLED", "TOKEN ENDS IN", "SUBSCRIPTIONS", "SESSION")
	for _, c := range f.Connections {
		since, ends := "-", "-"
		if !c.Since.IsZero() {
			since, ends = age(now, c.Since), age(c.TokenExpires, now)
		}
		row(w, c.Edge, dash(c.Orchestrator), dash(c.Daemon), c.Address.String(), c.State, since,
			fmt.Sprint(c.Unsettled), ends, dash(strings.Join(c.Subscriptions, " ")), c.Session)
	}
	if len(f.Connections) < f.Total {
		fmt.Fprintf(w, "%d of %d connections; --limit shows more\n", len(f.Connections), f.Total)
	}
	silent(w, f.Silent)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
