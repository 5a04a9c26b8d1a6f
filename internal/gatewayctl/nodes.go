package gatewayctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// node is one as it is printed.
type node struct {
	operation.Member
	operation.NodeReport
}

// nodes are those that have answered, and those that have not.
type nodes struct {
	Nodes  []node             `json:"nodes"`
	Silent []operation.Member `json:"silent"`
}

func (p *program) nodesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "nodes",
		Short: "Show each node: its version, whether it is ready, since when, why not, and what it holds",
		Args:  cobra.NoArgs,
	}
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) { return askNodes(ctx, client) })
	}
	return c
}

func askNodes(ctx context.Context, client *operation.Client) (nodes, error) {
	answers, err := client.Ask(ctx, operation.Nodes, struct{}{}, operation.Tiers...)
	if err != nil {
		return nodes{}, err
	}
	found := nodes{Silent: orNone(answers.Silent)}
	err = operation.Each(answers, func(of operation.Member, report operation.NodeReport) {
		found.Nodes = append(found.Nodes, node{of, report})
	})
	return found, err
}

// unwell returns errUnwell if somebody is not ready, or silent.
func (n nodes) unwell() error {
	if len(n.Silent) > 0 || slices.ContainsFunc(n.Nodes, func(n node) bool { return !n.Ready }) {
		return errUnwell
	}
	return nil
}

func (n nodes) print(w io.Writer) {
	now := time.Now()
	row(w, "TIER", "NODE", "VERSION", "READY", "SINCE", "UP", "HOLDS")
	for _, n := range n.Nodes {
		row(w, string(n.Tier), n.Node, n.Version, yesNo(n.Ready), age(now, n.Since), age(now, n.Started), counts(n.Holds))
	}
	for _, m := range n.Silent {
		row(w, string(m.Tier), m.Node, "?", "?", "?", "?", "did not answer")
	}
	for _, n := range n.Nodes {
		for _, c := range n.Checks {
			if !c.Ready {
				fmt.Fprintf(w, "%s %s: %s%s: %s\n", n.Tier, n.Node, c.Name, advisory(c), cmp.Or(c.Detail, "not ready"))
			}
		}
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func advisory(c operation.Check) string {
	if c.Advisory {
		return " (advisory)"
	}
	return ""
}

// partition is one with who serves it; nobody: Node is empty.
type partition struct {
	Node string `json:"node"`
	operation.ServedPartition
}

// partitions are all of them, and the routers that did not answer.
type partitions struct {
	Partitions []partition        `json:"partitions"`
	Silent     []operation.Member `json:"silent"`
}

func (p *program) partitionsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "partitions",
		Short: "Show which router serves each partition, and how far behind the log it is",
		Args:  cobra.NoArgs,
	}
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) {
			return askPartitions(ctx, client)
		})
	}
	return c
}

func askPartitions(ctx context.Context, client *operation.Client) (partitions, error) {
	answers, err := client.Ask(ctx, operation.Partitions, struct{}{}, operation.Router)
	if errors.Is(err, operation.ErrNobody) {
		return partitions{}, fmt.Errorf("ask routers: %w", err)
	}
	if err != nil {
		return partitions{}, err
	}
	found := partitions{Silent: orNone(answers.Silent)}
	count, owned := 0, map[int]bool{}
	err = operation.Each(answers, func(of operation.Member, report operation.PartitionsReport) {
		count = max(count, report.Count)
		for _, o := range report.Served {
			owned[o.ID] = true
			found.Partitions = append(found.Partitions, partition{of.Node, o})
		}
	})
	for id := range count {
		if !owned[id] {
			found.Partitions = append(found.Partitions, partition{"", operation.ServedPartition{
				ID: id, Problem: "no router that has answered serves it",
			}})
		}
	}
	slices.SortFunc(found.Partitions, func(a, b partition) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Node, b.Node))
	})
	return found, err
}

// unwell returns errUnwell if a router is silent, or a partition not served.
func (f partitions) unwell() error {
	if len(f.Silent) > 0 || slices.ContainsFunc(f.Partitions, func(p partition) bool { return !p.Ready }) {
		return errUnwell
	}
	return nil
}

func (f partitions) print(w io.Writer) {
	row(w, "PARTITION", "ROUTER", "POSITION", "LAST", "LAG", "STATE")
	for _, p := range f.Partitions {
		position, last, lag := strconv.FormatUint(p.Position, 10), strconv.FormatUint(p.Last, 10), strconv.FormatUint(p.Lag, 10)
		if p.Epoch == "" {
			position, last, lag = "?", "?", "?"
		}
		row(w, strconv.Itoa(p.ID), cmp.Or(p.Node, "nobody"), position, last, lag, p.state())
	}
	silent(w, f.Silent)
}

// state says in words how a partition is.
func (p partition) state() string {
	var words []string
	if p.Ready {
		words = append(words, "served")
	} else {
		words = append(words, p.Problem)
	}
	if p.Leaving {
		words = append(words, "being handed over")
	}
	if p.Refused > 0 {
		words = append(words, fmt.Sprintf("%d refused events wait for the dead letters", p.Refused))
	}
	return strings.Join(words, ", ")
}
