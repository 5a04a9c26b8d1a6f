package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/gatewayctl"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

type hopOutput struct {
	Step, Tier, Node, Daemon, Edge, Detail string
	At                                     time.Time
}

type eventOutput struct {
	Event, Orchestrator, Outcome string
	Partition                    int
	Stored                       []struct {
		Sequence uint64
		Stored   time.Time
		Type     string
	}
	DeadLetters []struct{ Reason string }
	Routers     []struct{ Node string }
	Daemons     []struct {
		Daemon, Words string
		Settled       bool
		Held          []struct{ Edge string }
	}
	Hops     []hopOutput
	Problems []string
	Silent   []struct{ Tier, Node string }
}

// steps are the hops of a tier, in their order; of all with "".
func (o eventOutput) steps(tier string) (steps []string) {
	for _, h := range o.Hops {
		if tier == "" || h.Tier == tier {
			steps = append(steps, h.Step)
		}
	}
	return steps
}

// askEvent asks for an event until what is found fits.
func (w *world) askEvent(fits func(eventOutput, said) bool, args ...string) (o eventOutput) {
	w.t.Helper()
	var s said
	w.eventually(func() bool {
		s = w.ctl(append([]string{"event", "-o", "json"}, args...)...)
		if s.code == 1 || s.code == 2 {
			return false
		}
		o = decode[eventOutput](w.t, s)
		return fits(o, s)
	}, "it is known what became of %v: %v", args, &s)
	return o
}

// publishTo publishes an event for all daemons of an orchestrator.
func (w *world) publishTo(orchestrator, id string, way traffic.Way) {
	w.t.Helper()
	require.NoError(w.t, w.Feed.Publish(w.ctx, way, event.Event{
		ID: id, Type: "message.received", OrchestratorID: protocol.OrchestratorID(orchestrator), Payload: []byte(`{}`),
		RequiresAck: true, Timestamp: time.Now().UTC().Format(time.RFC3339Nano),
	}))
}

func TestOperatorsSeeTheWholeWayOfAnEvent(t *testing.T) {
	t.Parallel()
	w := startWorld(t, with(map[string]string{"TRACE_SAMPLE": "1"}))
	seat := w.Crowd.Add("vp 7.*/ü", traffic.Habit{}, protocol.Subscribe{EventTypes: []protocol.Pattern{protocol.AllEvents}})
	w.enter(seat)
	orchestrator, daemon := string(seat.Profile.Orchestrator), string(seat.Profile.Daemon)
	live := w.watchLive(orchestrator)
	w.publishTo(orchestrator, "e/1", traffic.OnRedis)
	settled := func(o eventOutput, s said) bool {
		return s.code == 0 && len(o.Routers) == 1 && // two, while one hands the partition over
			len(o.Daemons) == 1 && o.Daemons[0].Settled && slices.Contains(o.steps("edge"), "acknowledged") &&
			slices.Contains(o.steps("bridge"), "stored") && slices.Contains(o.steps("router"), "forwarded")
	}
	o := w.askEvent(settled, "e/1", "--orchestrator", orchestrator)
	require.Contains(t, o.Outcome, "It is in the log, stored ")
	require.Contains(t, o.Outcome, "settled for its daemon")
	require.Len(t, o.Stored, 1)
	require.Equal(t, "message.received", o.Stored[0].Type)
	require.Equal(t, daemon, o.Daemons[0].Daemon)
	require.Equal(t, []string{"published"}, o.steps("publisher"))
	require.Subset(t, o.steps("edge"), []string{"written", "acknowledged"})
	require.True(t, slices.Contains(o.steps("edge"), "received") || slices.Contains(o.steps("edge"), "read"), o.steps("edge"))
	require.True(t, slices.IsSortedFunc(o.Hops, func(a, b hopOutput) int { return a.At.Compare(b.At) }))
	for _, h := range o.Hops {
		require.False(t, h.At.IsZero(), h)
		require.True(t, h.Node != "" || h.Tier == "publisher" || h.Tier == "log", h)
		require.True(t, h.Step != "written" || h.Daemon == daemon, h)
	}
	// The id alone is enough, and people can read it.
	require.Equal(t, orchestrator, w.askEvent(settled, "e/1").Orchestrator)
	s := w.ctl("event", "e/1")
	require.Zero(t, s.code, s.err)
	for _, words := range []string{"Event e/1 of orchestrator vp 7.*/ü", "- " + daemon + ": settled", "acknowledged, daemon " + daemon} {
		require.Contains(t, s.out, words)
	}
	require.Equal(t, 1, w.ctl("event", "never-published").code)
	live.until("acknowledged")
	live.end()

	// With a router and an edge killed those who are left answer, and what the others
	// have said is still there.
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	dead := w.askEvent(func(o eventOutput, _ said) bool { return len(o.Stored) == 1 }, "e/1", "--orchestrator", orchestrator, "--timeout", "3s")
	require.Subset(t, dead.steps(""), o.steps(""))
	for _, m := range dead.Silent {
		require.Contains(t, []string{"router-1", "edge-3"}, m.Node)
	}
	live = w.watchLive(orchestrator)
	w.publishTo(orchestrator, "e2", traffic.IntoLog)
	w.askEvent(func(o eventOutput, _ said) bool { // it passed no bridge
		return len(o.Daemons) == 1 && o.Daemons[0].Settled && slices.Contains(o.steps("edge"), "acknowledged")
	}, "e2", "--orchestrator", orchestrator)
	live.until("acknowledged")
	live.end()
}

// Where nothing is chosen, what fails is traced all the same, and of what goes well
// the log itself tells what became of it.
func TestOperatorsSeeWhatBecameOfAnEventThatNobodyAcknowledges(t *testing.T) {
	t.Parallel()
	w := startWorld(t, with(map[string]string{"TRACE_SAMPLE": "1000000000", "MAX_DELIVERIES": "2", "ACK_TIMEOUT": "300ms"}))
	const orchestrator = "of-traces"
	ctx, leave := context.WithCancel(w.ctx)
	left := make(chan said, 1)
	go func() { left <- w.ctlAs(ctx, "connect", orchestrator, "--url", w.Edges[0].URL, "--no-ack") }()
	w.eventually(func() bool {
		return decode[connectionsOutput](t, w.ctl("connections", "-o", "json", "--orchestrator", orchestrator)).Total == 1
	}, "the daemon is there")
	w.publishTo(orchestrator, "fails", traffic.IntoLog)
	o := w.askEvent(func(o eventOutput, _ said) bool {
		return len(o.DeadLetters) == 1 && slices.Contains(o.steps("edge"), "dead-lettered")
	}, "fails", "--orchestrator", orchestrator)
	require.Equal(t, "undelivered", o.DeadLetters[0].Reason)
	require.Contains(t, o.Outcome, "dead letter")
	require.Equal(t, []string{"stored"}, o.steps("log"))
	written := slices.DeleteFunc(o.steps("edge"), func(step string) bool { return step == "received" || step == "read" })
	require.Equal(t, []string{"written", "unacknowledged", "written", "unacknowledged", "dead-lettered"}, written)
	leave()
	<-left

	// Nobody is there.
	w.publishTo(orchestrator, "waits", traffic.IntoLog)
	o = w.askEvent(func(o eventOutput, _ said) bool {
		return len(o.Daemons) == 1 && strings.Contains(o.Daemons[0].Words, "not connected")
	}, "waits", "--orchestrator", orchestrator)
	require.False(t, o.Daemons[0].Settled)
	require.Equal(t, []string{"published", "stored"}, o.steps(""), "as the event and the log say it")

	// It was refused.
	w.eventually(func() bool {
		return w.Feed.PublishRaw(w.ctx, []byte(`{"id":"refused","orchestratorId":"of-traces"}`)) == nil
	}, "it is heard")
	o = w.askEvent(func(o eventOutput, _ said) bool { return len(o.DeadLetters) == 1 }, "refused", "--orchestrator", orchestrator)
	require.Equal(t, "missing_field", o.DeadLetters[0].Reason)

	// With a router and an edge killed, the rest is told, and who did not answer.
	w.Routers[1].Kill()
	w.Edges[0].Kill()
	o = w.askEvent(func(o eventOutput, _ said) bool { return len(o.Stored) == 1 }, "waits", "--orchestrator", orchestrator, "--timeout", "3s")
	require.False(t, o.Daemons[0].Settled)
	for _, m := range o.Silent {
		require.Contains(t, []string{"router-2", "edge-1"}, m.Node)
	}
}

// watching is a call of trace.
type watching struct {
	w    *world
	stop context.CancelFunc
	done chan int

	mu   sync.Mutex
	out  bytes.Buffer
	told bytes.Buffer
}

// part is one of the two outputs.
type part struct {
	*watching
	into *bytes.Buffer
}

func (p part) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.into.Write(text)
}

// watchLive traces an orchestrator; it returns once nodes tell.
func (w *world) watchLive(orchestrator string) *watching {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.ctx)
	l := &watching{w: w, stop: stop, done: make(chan int, 1)}
	environ := func(name string) (string, bool) {
		if name == "NATS_URL" {
			return w.NATSURL(), true
		}
		return "", false
	}
	go func() {
		args := []string{"trace", "--orchestrator", orchestrator, "--for", "0", "-o", "json"}
		l.done <- gatewayctl.Run(ctx, args, environ, strings.NewReader(""), part{l, &l.out}, part{l, &l.told})
	}()
	w.eventually(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(l.told.String(), "told by ")
	}, "nodes tell")
	return l
}

// until waits until a step was told.
func (l *watching) until(step string) {
	l.w.t.Helper()
	l.w.eventually(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for line := range strings.Lines(l.out.String()) {
			var record struct{ Hops []hopOutput }
			if json.Unmarshal([]byte(line), &record) == nil && slices.ContainsFunc(record.Hops, func(h hopOutput) bool { return h.Step == step }) {
				return true
			}
		}
		return false
	}, "%s is told live", step)
}

func (l *watching) end() {
	l.w.t.Helper()
	l.stop()
	require.Contains(l.w.t, []int{0, 3}, <-l.done, &l.told)
}
