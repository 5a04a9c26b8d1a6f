package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/gatewayctl"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// said is what a call of gatewayctl came to.
type said struct {
	code     int
	out, err string
}

// ctl calls gatewayctl as an operator does.
func (w *world) ctl(args ...string) said { return w.ctlAs(w.ctx, args...) }

func (w *world) ctlAs(ctx context.Context, args ...string) said {
	environment := map[string]string{
		"NATS_URL": w.NATSURL(), "NATS_INBOX_PREFIX": "_INBOX_somebody_else",
		"DAEMON_JWT_SECRET": cluster.Secret,
	}
	var out, err bytes.Buffer
	code := gatewayctl.Run(ctx, args, func(name string) (string, bool) {
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

// because is why operators of these tests act.
const because = "tried by a test"

// acts calls gatewayctl for something that is meant.
func (w *world) acts(args ...string) said {
	return w.ctl(append(args, "--yes", "--by", "tester", "--because", because)...)
}

func TestOperatorsActOnConnectionsAndEdgesAndItIsWrittenDown(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(6)
	w.enter(p.everybody()...)
	count := func(args ...string) int {
		return decode[connectionsOutput](t, w.ctl(append([]string{"connections", "-o", "json"}, args...)...)).Total
	}
	all := len(p.everybody())

	// Nothing is done that was not confirmed, has no reason, or names nobody.
	orchestrator := string(p.seats[0][0].Profile.Orchestrator)
	s := w.ctl("disconnect", "--orchestrator", orchestrator, "--by", "tester", "--because", because)
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "Disconnect 2 connections? [y/N]")
	require.Equal(t, 2, w.ctl("disconnect", "--orchestrator", orchestrator, "--yes").code)
	require.Equal(t, 2, w.acts("disconnect").code)
	require.Equal(t, all, count())

	before := decode[connectionsOutput](t, w.ctl("connections", "-o", "json", "--orchestrator", orchestrator)).Connections
	s = w.acts("disconnect", "--orchestrator", orchestrator)
	require.Zero(t, s.code, s.err)
	require.Contains(t, s.out, "2 connections ended")
	w.eventually(func() bool {
		return count("--orchestrator", orchestrator) == 2 && count("--session", before[0].Session) == 0
	}, "its daemons have come back")

	// An edge that is drained empties, and takes connections again afterwards.
	s = w.acts("drain", "edge-1")
	require.Zero(t, s.code, s.err)
	w.eventually(func() bool { return count("--edge", "edge-1") == 0 && count() == all }, "all are elsewhere")
	r, err := w.Edges[0].Readiness(w.ctx)
	require.NoError(t, err)
	require.Contains(t, r.Checks["edge"].Detail, "drained by an operator")
	require.Equal(t, 3, w.ctl("status").code)
	s = w.acts("drain", "no-such-edge")
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "no edge named no-such-edge has answered")
	require.Zero(t, w.acts("undrain", "edge-1").code)
	require.NoError(t, w.Edges[0].AwaitReady(w.ctx))

	// Whoever is revoked is disconnected and refused until that is taken back.
	s = w.acts("revoke", "orchestrator", orchestrator, "--for", "1h")
	require.Zero(t, s.code, s.err)
	w.eventually(func() bool { return count("--orchestrator", orchestrator) == 0 }, "it is refused")
	require.Contains(t, w.ctl("orchestrator", orchestrator).out, "Revoked until")
	require.Zero(t, w.acts("unrevoke", "orchestrator", orchestrator).code)
	s = w.acts("unrevoke", "orchestrator", orchestrator)
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "is not revoked")

	// With a router and an edge killed acts are done by those who are left.
	w.Routers[1].Kill()
	w.Edges[2].Kill()
	w.eventually(func() bool {
		s = w.acts("drain", "edge-2")
		return s.code == 0
	}, "an edge is drained: %v", &s)

	lines := ""
	for _, edge := range w.Edges {
		text, err := os.ReadFile(edge.LogFile())
		require.NoError(t, err)
		lines += string(text)
	}
	for _, act := range []string{"disconnected", "drained", "undrained", "revoking", "unrevoking"} {
		require.Regexp(t, `"act":"operator_acted","reason":"`+act+`",.*"by":"tester","because":"`+because+`"`, lines)
	}
}

func TestOperatorsReplayWhatNobodyAcknowledged(t *testing.T) {
	t.Parallel()
	w := startWorld(t, with(map[string]string{"MAX_DELIVERIES": "1", "ACK_TIMEOUT": "300ms", "DUPLICATE_WINDOW": "1s"}))
	const orchestrator = "of-dead-letters"
	ids := []string{"first", "second", "third"}
	for _, id := range ids {
		s := w.ctl("publish", orchestrator, "--id", id, "--payload", `{"n":"`+id+`"}`, "--by", "tester")
		require.Zero(t, s.code, s.err)
	}
	require.Equal(t, 2, w.ctl("publish", orchestrator, "--payload", "nonsense").code)

	// A daemon that acknowledges nothing.
	ctx, leave := context.WithCancel(w.ctx)
	left := make(chan said, 1)
	go func() { left <- w.ctlAs(ctx, "connect", orchestrator, "--url", w.Edges[0].URL, "--no-ack") }()
	type letters struct {
		Total       int
		DeadLetters []struct {
			Number  uint64
			EventID string
		}
	}
	var found letters
	list := func(args ...string) letters {
		return decode[letters](t, w.ctl(append([]string{"dead-letters", "list", "-o", "json", "--orchestrator", orchestrator}, args...)...))
	}
	w.eventually(func() bool {
		found = list("--reason", "undelivered")
		return found.Total == len(ids)
	}, "all are dead letters")
	leave()
	<-left
	require.Zero(t, list("--reason", "not_json").Total)
	require.Zero(t, list("--older-than", "1h").Total)
	require.Equal(t, len(ids), list("--newer-than", "1h").Total)
	s := w.ctl("dead-letters", "show", strconv.FormatUint(found.DeadLetters[0].Number, 10))
	require.Contains(t, s.out, `"payload":{"n":"`)
	require.Equal(t, 2, w.acts("dead-letters", "replay").code, "nothing is named")

	w.Routers[0].Kill()
	w.Edges[2].Kill()
	w.eventually(func() bool {
		s = w.acts("dead-letters", "replay", "--orchestrator", orchestrator)
		return s.code == 0
	}, "they are published again, after the duplicate window: %v", &s)
	require.Zero(t, list().Total)
	s = w.ctl("connect", orchestrator, "--url", w.Edges[0].URL, "--count", "3", "-o", "json")
	require.Zero(t, s.code, s.err)
	var got []string
	for line := range strings.Lines(s.out) {
		var e struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		got = append(got, e.ID)
	}
	require.Equal(t, ids, got, "in their order, under their ids")
	require.Equal(t, 1, w.acts("dead-letters", "drop", "--orchestrator", orchestrator).code, "there are none")

	s = w.ctl("token", orchestrator)
	require.Zero(t, s.code, s.err)
	require.Len(t, strings.Split(s.out, "."), 3)
}
