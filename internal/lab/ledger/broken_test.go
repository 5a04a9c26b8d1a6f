package ledger_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// broken is a run with faults: one seat, and a clock that the test sets.
type broken struct {
	*ledger.Ledger
	now time.Time
}

func newBroken() *broken {
	b := &broken{now: epoch}
	b.Ledger = ledger.NewAt(func() time.Time { return b.now })
	return b
}

func (b *broken) after(d time.Duration) { b.now = b.now.Add(d) }

func (b *broken) publish(sequence uint64, id string) event.Event {
	e := event.Event{ID: id, Type: "a.b", OrchestratorID: "A", Payload: json.RawMessage(`{}`), RequiresAck: true}
	b.Published(e)
	if sequence > 0 {
		b.Stored("A", id, ledger.Place{Sequence: sequence})
	}
	return e
}

func (b *broken) connect(edge string) ledger.ConnID {
	id := b.Connected(ledger.Connection{
		Seat: "s", Orchestrator: "A", Daemon: "d", Edge: edge, Subscriptions: []protocol.Subscription{{Pattern: protocol.AllEvents}},
	})
	b.Subscribed(id)
	return id
}

func (b *broken) receive(id ledger.ConnID, e event.Event, sequence uint64, again bool) {
	b.Received(id, protocol.Event{
		EventID: e.ID, EventType: e.Type, Data: e.Payload, RequiresAck: true, Redelivered: again,
		Position: eventlog.Position{Epoch: eventlog.NewEpoch(epoch, 0), Sequence: sequence}.String(),
	})
}

// arrive has the acks so far arrive for certain: two questions are answered, one
// after the other.
func (b *broken) arrive(id ledger.ConnID) {
	for range 2 {
		b.after(time.Millisecond)
		b.Asked(id)
		b.after(time.Millisecond)
		b.Answered(id)
	}
}

func kinds(r ledger.Report) []ledger.Kind {
	var all []ledger.Kind
	for _, v := range r.Violations {
		all = append(all, v.Kind)
	}
	return all
}

func TestOnlyWhatTheLogAcknowledgedMustBeThere(t *testing.T) {
	t.Parallel()
	b := newBroken()
	conn := b.connect("edge")
	first := b.publish(1, "first")
	b.publish(0, "never acknowledged")
	b.receive(conn, first, 1, false)
	b.Acked(conn, first.ID)
	require.Empty(t, b.Check(ledger.Promise{ConfirmedOnly: true}).Violations)
	b.publish(0, "acknowledged")
	b.Confirmed("A", "acknowledged")
	require.Equal(t, []ledger.Kind{ledger.Unstored}, kinds(b.Check(ledger.Promise{ConfirmedOnly: true})))
}

func TestConfirmedEventsStandInTheOrderOfTheirPublishing(t *testing.T) {
	t.Parallel()
	b := newBroken()
	b.publish(3, "first")
	b.publish(1, "of unknown outcome")
	b.publish(2, "second")
	b.Confirmed("A", "first")
	require.Empty(t, b.Check(ledger.Promise{ConfirmedOnly: true}).Violations)
	b.Confirmed("A", "second")
	require.Equal(t, []ledger.Kind{ledger.Misordered}, kinds(b.Check(ledger.Promise{ConfirmedOnly: true})))
}

func TestTwoCopiesInTheLogAreFound(t *testing.T) {
	t.Parallel()
	b := newBroken()
	b.publish(1, "e")
	b.Stored("A", "e", ledger.Place{Sequence: 1})
	require.Empty(t, b.Check(ledger.Promise{}).Violations, "the log may be looked at twice")
	b.Stored("A", "e", ledger.Place{Sequence: 2})
	require.Equal(t, []ledger.Kind{ledger.Doubled}, kinds(b.Check(ledger.Promise{})))
}

func TestPlacesInALogThatWasLostSayNothing(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{true, false} {
		b := newBroken()
		c := b.connect("edge")
		first, second := b.publish(1, "first"), b.publish(2, "second")
		b.receive(c, second, 7, false)
		b.receive(c, first, 8, false)
		b.after(time.Second)
		if lost {
			b.LogLost()
		}
		b.receive(c, first, 1, false)
		b.receive(c, second, 2, false)
		found := kinds(b.Check(ledger.Promise{}))
		require.Equal(t, lost, !slices.Contains(found, ledger.Altered))
		require.Equal(t, lost, !slices.Contains(found, ledger.Misordered))
		require.Equal(t, lost, !slices.Contains(found, ledger.Repeated))
	}
}

func TestARepeatOnALaterConnectionNeedsAReason(t *testing.T) {
	t.Parallel()
	const soon, long = time.Second, 10 * time.Second
	for _, test := range []struct {
		name   string
		acked  bool
		there  bool // the ack, for certain
		marked bool
		lived  time.Duration // the first connection, after the event
		away   time.Duration // until the second connection
		calm   bool
		reason ledger.Reason
	}{
		{"acknowledged and flushed", true, true, true, long, 0, true, ledger.Unexplained},
		{"acknowledged, but disturbed", true, true, true, long, 0, false, ledger.Disturbed},
		{"acknowledged, and back at once", true, true, true, soon, 0, true, ledger.BeforeFlush},
		{"acknowledged at the very end", true, false, true, 0, long, true, ledger.AckOnTheWay},
		{"acknowledged, and nobody knows whether the edge heard it", true, false, true, long, long, true, ledger.AckOnTheWay},
		{"not acknowledged, and marked", false, false, true, long, 0, true, ledger.Unacknowledged},
		{"not acknowledged, and unmarked", false, false, false, long, 0, true, ledger.Unacknowledged},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBroken()
			first := b.connect("edge-1")
			e := b.publish(1, "e")
			b.receive(first, e, 1, false)
			if test.acked {
				b.Acked(first, e.ID)
			}
			if test.there {
				b.arrive(first)
			}
			b.after(test.lived)
			b.Closed(first)
			b.after(test.away)
			second := b.connect("edge-2")
			b.receive(second, e, 1, test.marked)
			b.Acked(second, e.ID)
			report := b.Check(ledger.Promise{Calm: func(edge string, from, to time.Time) bool {
				require.Equal(t, "edge-1", edge)
				require.WithinDuration(t, epoch, from, soon/2)
				require.True(t, to.After(from))
				return test.calm
			}})
			b.requireReason(t, report, test.reason)
		})
	}
}

func TestARepeatOnTheSameConnectionNeedsAReason(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		talk   string // a: an ack, ?: a question, !: the answer to the oldest
		calm   bool
		reason ledger.Reason
	}{
		{"not acknowledged", "?!?!", true, ledger.Unacknowledged},
		{"acknowledged, and nobody knows whether the edge heard it", "?!a", true, ledger.AckOnTheWay},
		{"the edge has the ack, and the repeat may have waited to be written", "a?!", true, ledger.AckOnTheWay},
		{"answered twice, and asked before the first answer", "a??!!", true, ledger.AckOnTheWay},
		{"answered twice, and asked once before the ack", "?a!?!", true, ledger.AckOnTheWay},
		{"the edge has the ack, and what it had to send before has come", "a?!?!", true, ledger.Unexplained},
		{"the same, but disturbed", "a?!?!", false, ledger.Disturbed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBroken()
			conn := b.connect("edge-1")
			e := b.publish(1, "e")
			b.receive(conn, e, 1, false)
			for _, step := range test.talk {
				b.after(time.Millisecond)
				switch step {
				case 'a':
					b.Acked(conn, e.ID)
				case '?':
					b.Asked(conn)
				case '!':
					b.Answered(conn)
				}
			}
			b.after(10 * time.Second)
			b.receive(conn, e, 1, true)
			b.Acked(conn, e.ID)
			b.requireReason(t, b.Check(ledger.Promise{Calm: func(string, time.Time, time.Time) bool { return test.calm }}), test.reason)
		})
	}
}

// requireReason says that the one repeat of a run has a reason, and is a
// violation only if it has none.
func (b *broken) requireReason(t *testing.T, report ledger.Report, reason ledger.Reason) {
	t.Helper()
	require.Equal(t, map[ledger.Reason]int{reason: 1}, report.Reasons)
	if reason == ledger.Unexplained {
		require.Equal(t, []ledger.Kind{ledger.Repeated}, kinds(report))
		return
	}
	require.Empty(t, report.Violations)
}

func TestACursorIsHeldToTheLastTimeThatItWasWritten(t *testing.T) {
	t.Parallel()
	b := newBroken()
	e := b.publish(1, "e")
	for i, edge := range []string{"disturbed", "calm", "anywhere"} {
		conn := b.connect(edge)
		b.receive(conn, e, 1, i > 0)
		b.Acked(conn, e.ID)
		b.arrive(conn)
		b.after(10 * time.Second)
		b.Closed(conn)
	}
	report := b.Check(ledger.Promise{Calm: func(edge string, _, _ time.Time) bool { return edge == "calm" }})
	require.Equal(t, map[ledger.Reason]int{ledger.Disturbed: 1, ledger.Unexplained: 1}, report.Reasons)
	require.Equal(t, []ledger.Kind{ledger.Repeated}, kinds(report))
}

func TestAStoryTellsWhoSawWhat(t *testing.T) {
	t.Parallel()
	b := newBroken()
	conn := b.connect("edge-1")
	e := b.publish(7, "e")
	b.Confirmed("A", "e")
	b.after(3 * time.Second)
	b.receive(conn, e, 7, false)
	b.Acked(conn, e.ID)
	text, from, to := b.Story("A", "e")
	require.Equal(t, epoch, from)
	require.Equal(t, epoch.Add(3*time.Second), to)
	for _, part := range []string{"event e of A", "sequence 7", "edge-1", "received as number 1", "acknowledged"} {
		require.Contains(t, text, part)
	}
	require.Len(t, b.Deliveries(), 1)
	require.Equal(t, epoch, b.Deliveries()[0].Published)
}

func TestADeliveryTellsWhatTheSeatSawOverAllItsConnections(t *testing.T) {
	t.Parallel()
	b := newBroken()
	e := b.publish(7, "e")
	for range 2 {
		conn := b.connect("edge-1")
		b.after(time.Second)
		b.receive(conn, e, 7, false)
		b.after(time.Second)
		b.Acked(conn, e.ID)
		b.Closed(conn)
	}
	require.Len(t, b.Deliveries(), 1)
	d := b.Deliveries()[0]
	require.Equal(t, epoch.Add(time.Second), d.Received)
	require.Equal(t, []time.Time{epoch.Add(3 * time.Second)}, d.Again)
	require.Equal(t, epoch.Add(2*time.Second), d.Acked, "the first ack")
	require.True(t, d.CameAfter(epoch.Add(2*time.Second)))
	require.False(t, d.CameAfter(epoch.Add(3*time.Second)))
	require.True(t, d.AckedBy(epoch.Add(2*time.Second)))
	require.False(t, d.AckedBy(epoch.Add(time.Second)))
}

func TestWhatIsExpectedIsNoViolation(t *testing.T) {
	t.Parallel()
	b := newBroken()
	b.connect("edge-1")
	b.publish(7, "gone")
	b.publish(8, "lost")
	report := b.Check(ledger.Promise{Except: func(v ledger.Violation) bool { return v.Event == "gone" }})
	require.Len(t, report.Violations, 1)
	require.Equal(t, "lost", report.Violations[0].Event)
}
