package ledger_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// run is a small history that breaks nothing: orchestrator A with the seats a1
// (everything) and a2 (messages of channel c0 only), orchestrator B with the
// seat b1. Every third event needs no ack, every tenth is addressed to a2's
// daemon. A test breaks something before it is recorded.
type run struct {
	events   []event.Event
	inLog    []event.Event // in the order of the log
	conns    []ledger.Connection
	late     map[int]bool // connections that subscribe after all is published
	receipts map[int][]protocol.Event
	acks     map[int][]string
	buried   []event.Event
	// closed lists connections that end before those with higher numbers begin.
	closed map[int]bool
}

func newRun() *run {
	everything := []protocol.Subscription{{Pattern: protocol.AllEvents}}
	r := &run{
		conns: []ledger.Connection{
			{Seat: "a1", Orchestrator: "A", Daemon: "d1", Subscriptions: everything},
			{Seat: "a2", Orchestrator: "A", Daemon: "d2", Subscriptions: []protocol.Subscription{{Pattern: "message.*", Channels: []string{"c0"}}}},
			{Seat: "b1", Orchestrator: "B", Daemon: "d3", Subscriptions: everything},
		},
		late: map[int]bool{}, receipts: map[int][]protocol.Event{}, acks: map[int][]string{}, closed: map[int]bool{},
	}
	for i := range 60 {
		e := event.Event{
			ID: fmt.Sprintf("e%02d", i), Type: "message.received", OrchestratorID: "A", ChannelID: fmt.Sprintf("c%d", i%2),
			Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, i)), RequiresAck: i%3 != 0, Timestamp: "2026-11-22T10:00:00.000Z",
		}
		if i%4 == 3 {
			e.OrchestratorID = "B"
		}
		if i%10 == 2 && e.OrchestratorID == "A" {
			e.DaemonID = "d2"
		}
		r.events = append(r.events, e)
	}
	r.inLog = slices.Clone(r.events)
	for i, c := range r.conns {
		for _, e := range r.events {
			addressed := e.DaemonID == "" || e.DaemonID == c.Daemon
			if e.OrchestratorID == c.Orchestrator && addressed && c.Subscriptions[0].Matches(e.Type, e.ChannelID) {
				r.deliver(i, e)
			}
		}
	}
	return r
}

func (r *run) deliver(conn int, e event.Event) {
	r.receipts[conn] = append(r.receipts[conn], r.asReceived(e))
	if e.RequiresAck {
		r.acks[conn] = append(r.acks[conn], e.ID)
	}
}

func (r *run) asReceived(e event.Event) protocol.Event {
	return protocol.Event{
		EventID: e.ID, EventType: e.Type, Data: e.Payload, RequiresAck: e.RequiresAck, ChannelID: e.ChannelID,
		CreatedAt: e.Timestamp, Priority: e.Priority, Position: eventlog.Position{Epoch: eventlog.NewEpoch(epoch, 0), Sequence: r.sequence(e)}.String(),
	}
}

func (r *run) sequence(e event.Event) uint64 {
	return uint64(1 + slices.IndexFunc(r.inLog, func(other event.Event) bool { return other.ID == e.ID && other.OrchestratorID == e.OrchestratorID }))
}

// drop takes the i-th receipt of a connection away, with its ack.
func (r *run) drop(conn, i int) {
	id := r.receipts[conn][i].EventID
	r.receipts[conn] = slices.Delete(r.receipts[conn], i, i+1)
	r.unack(conn, id)
}

func (r *run) unack(conn int, id string) {
	r.acks[conn] = slices.DeleteFunc(r.acks[conn], func(acked string) bool { return acked == id })
}

func (r *run) publishedOnce(l *ledger.Ledger) {
	for _, e := range r.events {
		l.Published(e)
	}
}

// check records the run and judges it.
func (r *run) check(p ledger.Promise) ledger.Report {
	l := ledger.New()
	ids := map[int]ledger.ConnID{}
	open := func(i int) {
		ids[i] = l.Connected(r.conns[i])
		l.Subscribed(ids[i])
	}
	receive := func(i int) {
		for _, e := range r.receipts[i] {
			l.Received(ids[i], e)
		}
		l.Acked(ids[i], r.acks[i]...)
	}
	for i := range r.conns {
		if !r.late[i] {
			open(i)
		}
	}
	r.publishedOnce(l)
	for i := range r.conns {
		if r.late[i] {
			open(i)
		}
		receive(i)
		if r.closed[i] {
			l.Closed(ids[i])
		}
	}
	for i, e := range r.inLog {
		l.Stored(e.OrchestratorID, e.ID, ledger.Place{Sequence: uint64(i + 1)})
	}
	for _, e := range r.buried {
		l.Buried(e.OrchestratorID, e.ID)
	}
	return l.Check(p)
}

var strict = ledger.Promise{Unacked: true, PublishOrder: true}

func TestAFaultlessRunHasNoViolations(t *testing.T) {
	t.Parallel()
	report := newRun().check(strict)
	require.Empty(t, report.Violations)
	require.Equal(t, 60, report.Published)
	require.Equal(t, 3, report.Connections)
	require.Positive(t, report.Receipts)
	require.Positive(t, report.Acks)
	require.Zero(t, report.Repeats)
}

func TestViolationsAreFound(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spoil func(r *run)
		want  ledger.Kind
	}{
		{"a loss in the middle", func(r *run) { r.drop(0, 20) }, ledger.Lost},
		{"a loss at the end", func(r *run) { r.drop(2, len(r.receipts[2])-1) }, ledger.Lost},
		{"a loss for one of two daemons", func(r *run) { r.drop(1, 3) }, ledger.Lost},
		{"received and not acknowledged", func(r *run) { r.acks[2] = r.acks[2][:4] }, ledger.Lost},
		{"nothing at all", func(r *run) { r.receipts[2], r.acks[2] = nil, nil }, ledger.Lost},
		{"a swap", func(r *run) { q := r.receipts[0]; q[10], q[11] = q[11], q[10] }, ledger.Misordered},
		{"a low priority that overtakes", func(r *run) {
			q := r.receipts[0]
			r.prioritize(q[10].EventID, 2)
			r.prioritize(q[11].EventID, 1)
			q[10], q[11] = q[11], q[10]
		}, ledger.Misordered},
		{"a swap in the log", func(r *run) {
			// Both ends are as good as each other: only the log differs from the publishes.
			r.inLog[20], r.inLog[21] = r.inLog[21], r.inLog[20]
			r.redeliver()
		}, ledger.Misordered},
		{"an event of another orchestrator", func(r *run) {
			r.receipts[2] = append(r.receipts[2], r.receipts[0][5])
		}, ledger.Foreign},
		{"an event for another daemon", func(r *run) {
			i := slices.IndexFunc(r.events, func(e event.Event) bool { return e.DaemonID == "d2" })
			// Behind e00 and e01, so that nothing but the address is wrong.
			r.receipts[0] = slices.Insert(r.receipts[0], 2, r.asReceived(r.events[i]))
		}, ledger.Foreign},
		{"an event of another channel", func(r *run) {
			r.receipts[1] = slices.Insert(r.receipts[1], 1, r.asReceived(r.events[1]))
		}, ledger.Unwanted},
		{"changed data", func(r *run) { r.receipts[0][7].Data = json.RawMessage(`{"n":7}`) }, ledger.Altered},
		{"a changed type", func(r *run) { r.receipts[0][7].EventType = "message.sent" }, ledger.Altered},
		{"an ack no longer required", func(r *run) { r.receipts[0][1].RequiresAck = !r.receipts[0][1].RequiresAck }, ledger.Altered},
		{"a wrong position", func(r *run) { r.receipts[0][7].Position = r.receipts[0][8].Position }, ledger.Altered},
		{"no position", func(r *run) { r.receipts[0][7].Position = "" }, ledger.Altered},
		{"an event that nobody published", func(r *run) {
			r.receipts[0] = append(r.receipts[0], protocol.Event{EventID: "e99"})
		}, ledger.Invented},
		{"a repeat without a mark", func(r *run) {
			r.receipts[0] = slices.Insert(r.receipts[0], 8, r.receipts[0][3])
		}, ledger.Repeated},
		{"an event that is not in the log", func(r *run) { r.inLog = r.inLog[:59] }, ledger.Unstored},
		{"a seat that came back with its own id and a hole", func(r *run) {
			r.comeBack(1, "d2")
			r.drop(1, 3)
		}, ledger.Lost},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRun()
			test.spoil(r)
			report := r.check(strict)
			require.NotEmpty(t, report.Violations)
			for _, v := range report.Violations {
				require.Equal(t, test.want, v.Kind, report.String())
			}
		})
	}
}

func TestWhatTheProtocolAllowsIsNoViolation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		bend    func(r *run)
		promise ledger.Promise
		repeats int
		stale   int
	}{
		{"a marked repeat", func(r *run) {
			again := r.receipts[0][3]
			again.Redelivered = true
			r.receipts[0] = slices.Insert(r.receipts[0], 8, again)
		}, strict, 1, 0},
		{"a higher priority overtakes", func(r *run) {
			q := r.receipts[0]
			r.prioritize(q[11].EventID, 1)
			q[10], q[11] = q[11], q[10]
		}, strict, 0, 0},
		{"a repeat on a later connection", func(r *run) {
			r.comeBack(0, "d1")
			last := r.receipts[0][len(r.receipts[0])-1]
			r.receipts[3] = slices.Insert(r.receipts[3], 0, last)
		}, strict, 1, 1},
		{"the half after coming back", func(r *run) { r.comeBack(0, "d1") }, strict, 0, 0},
		{"a dead letter", func(r *run) {
			r.buried = append(r.buried, r.events[1])
			r.drop(0, slices.IndexFunc(r.receipts[0], func(e protocol.Event) bool { return e.EventID == "e01" }))
		}, strict, 0, 0},
		{"an unacknowledged kind is lost with a connection", func(r *run) {
			r.drop(0, slices.IndexFunc(r.receipts[0], func(e protocol.Event) bool { return !e.RequiresAck }))
		}, ledger.Promise{}, 0, 0},
		{"what came before a daemon goes to the others alone", func(r *run) {
			r.late[1] = true
			for !r.addressed(r.receipts[1][0].EventID) {
				r.drop(1, 0)
			}
		}, strict, 0, 0},
		{"a successor gets what was addressed to the one before", func(r *run) {
			r.comeBack(1, "d9")
		}, strict, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRun()
			test.bend(r)
			report := r.check(test.promise)
			require.Empty(t, report.Violations, report.String())
			require.Equal(t, test.repeats, report.Repeats)
			require.Equal(t, test.stale, report.Stale)
		})
	}
}

func TestProgressCountsEachEventOnce(t *testing.T) {
	t.Parallel()
	l := ledger.New()
	received, acked := l.Progress("s")
	require.Zero(t, received+acked)
	first := l.Connected(ledger.Connection{Seat: "s"})
	second := l.Connected(ledger.Connection{Seat: "s"})
	l.Received(first, protocol.Event{EventID: "a"})
	l.Received(second, protocol.Event{EventID: "a"})
	l.Received(second, protocol.Event{EventID: "b"})
	l.Acked(first, "a")
	l.Acked(second, "a")
	received, acked = l.Progress("s")
	require.Equal(t, 2, received)
	require.Equal(t, 1, acked)
}
