package gatewayctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// status is the whole at a glance.
type status struct {
	Well bool `json:"well"`
	// Findings say what is not well.
	Findings []string           `json:"findings"`
	Tiers    []tierStatus       `json:"tiers"`
	Silent   []operation.Member `json:"silent"`
	// Partitions are all, and Served those that a router forwards.
	Partitions int    `json:"partitions"`
	Served     int    `json:"served"`
	Lag        uint64 `json:"lag"`
}

// tierStatus is the nodes of a tier.
type tierStatus struct {
	Tier     operation.Tier `json:"tier"`
	Nodes    int            `json:"nodes"`
	Ready    int            `json:"ready"`
	Versions []string       `json:"versions"`
	Holds    map[string]int `json:"holds"`
}

func (p *program) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Say whether all is well, and what is not",
		Long:  "Say whether all is well, and what is not. The exit code is 0 where it is, and 3 where it is not.",
		Args:  cobra.NoArgs,
	}
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) { return askStatus(ctx, client) })
	}
	return c
}

func askStatus(ctx context.Context, client *operation.Client) (status, error) {
	found, err := askNodes(ctx, client)
	if err != nil {
		return status{}, err
	}
	served, err := askPartitions(ctx, client)
	if err != nil && !errors.Is(err, operation.ErrNobody) {
		return status{}, err
	}
	return summarize(found, served), nil
}

func (s status) unwell() error {
	if !s.Well {
		return errUnwell
	}
	return nil
}

func summarize(found nodes, served partitions) status {
	s := status{Findings: []string{}, Silent: found.Silent}
	for _, tier := range operation.Tiers {
		t := tierStatus{Tier: tier, Versions: []string{}, Holds: map[string]int{}}
		seen := map[string]bool{}
		for _, n := range found.Nodes {
			if n.Tier != tier {
				continue
			}
			t.Nodes++
			if n.Ready {
				t.Ready++
			}
			if !seen[n.Version] {
				seen[n.Version], t.Versions = true, append(t.Versions, n.Version)
			}
			for name, amount := range n.Holds {
				t.Holds[name] += amount
			}
		}
		if t.Nodes == 0 {
			s.finding("no %s has answered", tier)
		}
		s.Tiers = append(s.Tiers, t)
	}
	for _, m := range found.Silent {
		s.finding("%s %s did not answer", m.Tier, m.Node)
	}
	for _, n := range found.Nodes {
		for _, c := range n.Checks {
			if !c.Ready && !c.Advisory {
				s.finding("%s %s is not ready: %s: %s", n.Tier, n.Node, c.Name, c.Detail)
			}
		}
	}
	s.addPartitions(served)
	s.Well = len(s.Findings) == 0
	return s
}

func (s *status) addPartitions(served partitions) {
	all, ready := map[int]bool{}, map[int]bool{}
	for _, p := range served.Partitions {
		all[p.ID] = true
		if p.Ready {
			ready[p.ID] = true
		}
		s.Lag += p.Lag
	}
	s.Partitions, s.Served = len(all), len(ready)
	for _, p := range served.Partitions {
		if !ready[p.ID] {
			s.finding("partition %d is not served: %s", p.ID, p.Problem)
		}
	}
}

func (s *status) finding(format string, args ...any) {
	s.Findings = append(s.Findings, fmt.Sprintf(format, args...))
}

func (s status) print(w io.Writer) {
	row(w, "TIER", "NODES", "READY", "VERSION", "HOLDS")
	for _, t := range s.Tiers {
		row[any](w, t.Tier, t.Nodes, t.Ready, strings.Join(t.Versions, ", "), counts(t.Holds))
	}
	fmt.Fprintf(w, "\n%d of %d partitions served, %d events behind the log\n", s.Served, s.Partitions, s.Lag)
	if s.Well {
		fmt.Fprintln(w, "All is well.")
		return
	}
	fmt.Fprintln(w, "\nNot well:")
	for _, finding := range s.Findings {
		fmt.Fprintln(w, "- "+oneLine(finding))
	}
}
