package ledger_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/e2e/ledger"
	"github.com/neolith/daemon-gateway/internal/eventlog"
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

func TestARepeatNeedsAReason(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		acked   bool
		marked  bool
		pause   time.Duration // between the last of the first connection and the second
		calm    bool
		violate bool
	}{
		{"acknowledged and flushed", true, true, 10 * time.Second, true, true},
		{"acknowledged, but disturbed", true, true, 10 * time.Second, false, false},
		{"acknowledged just before", true, true, time.Second, true, false},
		{"not acknowledged, and marked", false, true, 10 * time.Second, true, false},
		{"not acknowledged, and unmarked", false, false, 10 * time.Second, true, true},
		{"unmarked just after", false, false, time.Second, true, false},
		{"unmarked, but disturbed", false, false, 10 * time.Second, false, false},
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
			b.after(test.pause)
			b.Closed(first)
			second := b.connect("edge-2")
			b.receive(second, e, 1, test.marked)
			b.Acked(second, e.ID)
			report := b.Check(ledger.Promise{Calm: func(edge string, from, to time.Time) bool {
				require.Equal(t, "edge-1", edge)
				require.Equal(t, epoch, from)
				require.True(t, to.After(from))
				return test.calm
			}})
			if test.violate {
				require.Equal(t, []ledger.Kind{ledger.Repeated}, kinds(report))
				return
			}
			require.Empty(t, report.Violations)
		})
	}
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
