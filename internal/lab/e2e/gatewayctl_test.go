package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/gatewayctl"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// said is what a call of gatewayctl came to.
type said struct {
	code     int
	out, err string
}

// ctl calls gatewayctl as an operator does.
func (w *world) ctl(args ...string) said {
	environment := map[string]string{
		"NATS_URL": w.NATSURL(), "NATS_INBOX_PREFIX": "_INBOX_somebody_else",
	}
	var out, err bytes.Buffer
	code := gatewayctl.Run(w.ctx, args, func(name string) (string, bool) {
		value, given := environment[name]
		return value, given
	}, strings.NewReader(""), &out, &err)
	return said{code, out.String(), err.String()}
}

// decode reads output that is JSON.
func decode[T any](t *testing.T, s said) (value T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(s.out), &value), "%+v", s)
	return value
}

type nodesOutput struct {
	Nodes []struct {
		Tier, Node, Version string
		Ready               bool
	}
	Silent []struct{ Tier, Node string }
}

func (o nodesOutput) names() (names []string) {
	for _, n := range o.Nodes {
		names = append(names, n.Node)
	}
	return names
}

type partitionsOutput struct {
	Partitions []struct {
		Partition int
		Node      string
		Ready     bool
		Lag       uint64
	}
}

func TestOperatorsSeeAWholeClusterAndOneWithoutARouterAndAnEdge(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	var s said
	w.eventually(func() bool {
		s = w.ctl("status")
		return s.code == 0
	}, "the cluster is whole: %v", &s)
	require.Contains(t, s.out, "All is well.")
	require.Contains(t, s.out, "16 of 16 partitions served")

	s = w.ctl("nodes", "-o", "json")
	all := decode[nodesOutput](t, s)
	require.Equal(t, []string{"bridge-1", "bridge-2", "edge-1", "edge-2", "edge-3", "router-1", "router-2"}, all.names())
	require.Empty(t, all.Silent)
	require.Contains(t, w.ctl("nodes").out, "edge-3")

	// While partitions are handed over, two routers have them.
	served := map[int]bool{}
	for _, p := range decode[partitionsOutput](t, w.ctl("partitions", "-o", "json")).Partitions {
		served[p.Partition] = served[p.Partition] || p.Ready
	}
	require.Len(t, served, partitions)

	// Whoever is dead is named for as long as others know it, and status says so.
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	s = w.ctl("nodes", "-o", "json", "--timeout", "3s")
	found := decode[nodesOutput](t, s)
	require.Subset(t, all.names(), found.names())
	require.NotContains(t, found.names(), "edge-3")
	require.NotContains(t, found.names(), "router-1")
	for _, m := range found.Silent {
		require.Contains(t, []string{"edge-3", "router-1"}, m.Node)
	}
	// Until the others have taken over.
	w.eventually(func() bool {
		s = w.ctl("status")
		return s.code == 0
	}, "the other router serves all: %v", &s)
	require.Contains(t, s.out, "edge    2      2")
	require.Contains(t, s.out, "16 of 16 partitions served")
	for _, p := range decode[partitionsOutput](t, w.ctl("partitions", "-o", "json")).Partitions {
		require.Equal(t, "router-2", p.Node)
	}
}

// A node that stands still is known to the others, and named.
func TestOperatorsAreToldWhoDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.Bridges[0].Kill()
	w.Bridges[1].Kill()
	require.NoError(t, w.Routers[1].Pause())
	defer w.Routers[1].Resume()
	var s said
	w.eventually(func() bool {
		s = w.ctl("status", "--timeout", "1s")
		return s.code == 3 && strings.Contains(s.out, "no bridge has answered")
	}, "what is away is told: %v", &s)
	// Gossip forgets it within seconds, unless it is asked before.
	found := slices.Contains(strings.Split(s.out, "\n"), "- router router-2 did not answer")
	require.True(t, found || strings.Contains(s.out, "router  1 "), s.out)
}

func TestACallThatIsWrongSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, args := range [][]string{{"no-such-command"}, {"nodes", "--no-such-flag"}, {"nodes", "argument"}, {"nodes", "-o", "yaml"}, {"nodes", "--nats-url", "foo"}} {
		s := w.ctl(args...)
		require.Equal(t, 2, s.code, "%v: %+v", args, s)
		require.NotEmpty(t, s.err)
	}
	s := w.ctl("nodes")
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "connect to NATS at 127.0.0.1:")
}

type connectionsOutput struct {
	Total       int
	Connections []connectionOutput
}

type connectionOutput struct {
	Edge, Session, Orchestrator, Daemon, Address, State string
	Subscriptions                                       []string
	Unsettled                                           int
	TokenExpires                                        time.Time
}

type orchestratorOutput struct {
	Partition int
	Events    struct{ Count int }
	Daemons   []daemonOutput

	Connections []connectionOutput
}

type daemonOutput struct {
	Daemon, Connected, Words string
	Waiting                  int
}

func TestOperatorsSeeWhoIsConnectedAndWhereAnOrchestratorStands(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(6)
	w.enter(p.everybody()...)
	all := decode[connectionsOutput](t, w.ctl("connections", "-o", "json"))
	require.Equal(t, len(p.everybody()), all.Total)
	require.Len(t, all.Connections, all.Total)
	require.True(t, slices.IsSortedFunc(all.Connections, func(a, b connectionOutput) int {
		return strings.Compare(a.Orchestrator, b.Orchestrator)
	}))
	for _, c := range all.Connections {
		require.Equal(t, "subscribed", c.State)
		require.NotEmpty(t, c.Subscriptions)
		require.False(t, c.TokenExpires.IsZero())
	}
	first := all.Connections[0]
	for _, args := range [][]string{
		{"--session", first.Session}, {"--daemon", first.Daemon},
		{"--edge", first.Edge, "--orchestrator", first.Orchestrator, "--daemon", first.Daemon, "--address", first.Address + "/32"},
	} {
		s := w.ctl(append([]string{"connections", "-o", "json"}, args...)...)
		found := decode[connectionsOutput](t, s)
		require.Equal(t, 1, found.Total, args)
		require.Equal(t, first.Session, found.Connections[0].Session)
	}
	require.Zero(t, decode[connectionsOutput](t, w.ctl("connections", "-o", "json", "--address", "10.0.0.0/8")).Total)
	s := w.ctl("connections", "--limit", "1")
	require.Contains(t, s.out, fmt.Sprintf("1 of %d connections", all.Total))
	s = w.ctl("connections", "--address", "nonsense")
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "neither an IP address nor a range")

	// One daemon is away while an event comes that all others settle.
	seats := p.seats[0]
	w.leave(seats[1])
	e := p.next()
	e.ID, e.OrchestratorID, e.Type, e.ChannelID, e.DaemonID, e.RequiresAck = "waits", seats[0].Profile.Orchestrator, "message.received", "", "", true
	require.NoError(t, w.Feed.Publish(w.ctx, traffic.IntoLog, e))
	id := string(e.OrchestratorID)
	var o orchestratorOutput
	w.eventually(func() bool {
		s = w.ctl("orchestrator", id, "-o", "json")
		o = decode[orchestratorOutput](t, s)
		i := slices.IndexFunc(o.Daemons, func(d daemonOutput) bool { return d.Daemon == string(seats[0].Profile.Daemon) })
		return i >= 0 && o.Daemons[i].Waiting == 0
	}, "the other daemon has settled it: %v", &s)
	require.Equal(t, 1, o.Events.Count)
	require.Len(t, o.Connections, 1)
	require.Len(t, o.Daemons, 2)
	for _, d := range o.Daemons {
		if d.Daemon == string(seats[1].Profile.Daemon) {
			require.Equal(t, 1, d.Waiting)
			require.Contains(t, d.Words, "not connected; one event not settled, stored ")
		}
	}
	s = w.ctl("orchestrator", id)
	require.Zero(t, s.code)
	require.Contains(t, s.out, "everything settled")
	require.Contains(t, w.ctl("orchestrator", "nobody").out, "The log holds no events of it.")

	// With a router and an edge killed the same is answered by those who are left.
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	s = w.ctl("orchestrator", id, "-o", "json", "--timeout", "3s")
	require.Equal(t, 1, decode[orchestratorOutput](t, s).Events.Count)
}
