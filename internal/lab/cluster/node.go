package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// Node is a process of the gateway: an edge, a router or a bridge.
type Node struct {
	*process.Process
	// AdminAddr is where it serves /readyz and /metrics.
	AdminAddr string
	// URL is where daemons connect; empty for all but edges.
	URL string
	// GossipAddr is where it gossips; empty for bridges.
	GossipAddr string
}

// Readiness is what a node's /readyz says.
type Readiness struct {
	Ready  bool             `json:"ready"`
	Checks map[string]Check `json:"checks"`
}

// Check is one thing that a node needs in order to be ready.
type Check struct {
	Ready  bool   `json:"ready"`
	Detail string `json:"detail"`
}

// Waiting returns the names of the checks that are not ready, sorted.
func (r Readiness) Waiting() []string {
	var names []string
	for name, check := range r.Checks {
		if !check.Ready {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Readiness asks /readyz. It fails if the node does not answer, or answers
// with a status that contradicts the body.
func (n *Node) Readiness(ctx context.Context) (Readiness, error) {
	resp, err := process.Get(ctx, "http://"+n.AdminAddr+"/readyz")
	if err != nil {
		return Readiness{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var r Readiness
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return Readiness{}, fmt.Errorf("%s: /readyz: %w", n.Name(), err)
	}
	if r.Ready != (resp.StatusCode == http.StatusOK) {
		return r, fmt.Errorf("%s: /readyz answers %s with ready=%t", n.Name(), resp.Status, r.Ready)
	}
	return r, nil
}

// AwaitReady waits until the node is ready. It fails when the process ends
// before, or ctx does; then it says what the node was waiting for.
func (n *Node) AwaitReady(ctx context.Context) error {
	return n.Await(ctx, func() error {
		r, err := n.Readiness(ctx)
		if err == nil && !r.Ready {
			err = fmt.Errorf("%s is not ready: %+v", n.Name(), r.Checks)
		}
		return err
	})
}

// Metric returns the sum of a metric's series whose labels include all of
// labels (such as `tier="edge"`), 0 if there are none.
func (n *Node) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	resp, err := process.Get(ctx, "http://"+n.AdminAddr+"/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	sum := 0.0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		series, text, _ := cutLast(lines.Text(), " ")
		family, labelled, _ := strings.Cut(series, "{")
		if family != name || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(labelled, l) }) {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: metric %s: %w", n.Name(), name, err)
		}
		sum += value
	}
	return sum, lines.Err()
}

// Memory is what a node takes, in bytes.
type Memory struct{ Resident, InUse float64 } // in use: heap and stacks

// Memory returns what the node takes now.
func (n *Node) Memory(ctx context.Context) (m Memory, err error) {
	if m.Resident, err = n.Metric(ctx, "process_resident_memory_bytes"); err != nil {
		return m, err
	}
	heap, err := n.Metric(ctx, "go_memstats_heap_inuse_bytes")
	if err != nil {
		return m, err
	}
	stacks, err := n.Metric(ctx, "go_memstats_stack_inuse_bytes")
	m.InUse = heap + stacks
	return m, err
}

// CPU returns how many seconds of CPU some nodes have used.
func CPU(ctx context.Context, nodes ...*Node) (float64, error) {
	return Sum(ctx, nodes, "process_cpu_seconds_total")
}

// Sum returns the sum of a metric over some nodes.
func Sum(ctx context.Context, nodes []*Node, name string, labels ...string) (sum float64, err error) {
	for _, n := range nodes {
		value, err := n.Metric(ctx, name, labels...)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// AwaitMetric waits until Metric returns a value.
func (n *Node) AwaitMetric(ctx context.Context, name string, value float64, labels ...string) error {
	return n.Await(ctx, func() error {
		got, err := n.Metric(ctx, name, labels...)
		if err == nil && got != value {
			err = fmt.Errorf("%s: metric %s%v is %v, expected %v", n.Name(), name, labels, got, value)
		}
		return err
	})
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
