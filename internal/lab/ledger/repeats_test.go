package ledger_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// tale is a run of one seat in words, one after the other:
//
//	on, off    a connection begins, breaks
//	e, f       an event comes that needs no ack; f stands behind e in the log
//	a, b       one comes that needs an ack; b stands behind a, and both behind f
//	g          one that needs none and stands behind all others
//	a+         it comes marked as a repeat
//	ack-b      the daemon acknowledges
//	?!         it asks its edge, and is answered
//	10s        time passes; a millisecond does with each word
type tale struct {
	*broken
	t      *testing.T
	events map[string]event.Event
	places map[string]uint64
	conn   ledger.ConnID
}

func tell(t *testing.T, words string) *broken {
	t.Helper()
	x := tale{broken: newBroken(), t: t, events: map[string]event.Event{}, places: map[string]uint64{}}
	for i, id := range []string{"e", "f", "a", "b", "g"} {
		x.places[id] = uint64(i + 1)
		x.events[id] = event.Event{ID: id, Type: "a.b", OrchestratorID: "A", Payload: json.RawMessage(`{}`), RequiresAck: id == "a" || id == "b"}
		x.Published(x.events[id])
		x.Stored("A", id, ledger.Place{Sequence: x.places[id]})
	}
	for word := range strings.FieldsSeq(words) {
		x.after(time.Millisecond)
		x.happen(word)
	}
	return x.broken
}

func (x *tale) happen(word string) {
	switch id, marked := strings.CutSuffix(word, "+"); {
	case word == "on":
		x.conn = x.connect(fmt.Sprint("edge-", x.conn))
	case word == "off":
		x.Closed(x.conn)
	case word == "?!":
		x.Asked(x.conn)
		x.after(time.Millisecond)
		x.Answered(x.conn)
	case strings.HasPrefix(word, "ack-"):
		x.Acked(x.conn, strings.TrimPrefix(word, "ack-"))
	case x.places[id] > 0:
		e, at := x.events[id], eventlog.Position{Epoch: eventlog.NewEpoch(epoch, 0), Sequence: x.places[id]}
		x.Received(x.conn, protocol.Event{
			EventID: id, EventType: e.Type, Data: e.Payload, RequiresAck: e.RequiresAck, Redelivered: marked, Position: at.String(),
		})
	default:
		d, err := time.ParseDuration(word)
		require.NoError(x.t, err, word)
		x.after(d)
	}
}

// requireRepeats says that the repeats of a run have these reasons, and which of them
// are found.
func (b *broken) requireRepeats(t *testing.T, calm bool, reasons ...ledger.Reason) {
	t.Helper()
	// Nothing is said of what is not acknowledged in the end.
	unacknowledged := func(v ledger.Violation) bool { return v.Kind == ledger.Lost }
	report := b.Check(ledger.Promise{Except: unacknowledged, Calm: func(string, time.Time, time.Time) bool { return calm }})
	want, found := map[ledger.Reason]int{}, 0
	for _, reason := range reasons {
		want[reason]++
		if reason == ledger.Unexplained {
			found++
		}
	}
	require.Equal(t, want, report.Reasons)
	require.Len(t, report.Violations, found, report.String())
	for _, v := range report.Violations {
		require.Equal(t, ledger.Repeated, v.Kind)
	}
}

// What needs no ack is settled where it was written, and comes again only after a
// break: if the edge may not know that it was written whole, or if the daemon had
// begun elsewhere before the cursor said so; from then on its position counts no
// more, so that the next connection but one may have it again as well. It does not
// once a connection was there long enough that its position, at or behind the event,
// must be in the cursor.
func TestWhatNeedsNoAckIsRepeatedOnlyAfterABreak(t *testing.T) {
	t.Parallel()
	const again = ledger.Unexplained
	for name, test := range map[string]struct {
		words   string
		reasons []ledger.Reason
	}{
		"it broke just after":                             {"on e 100ms off on e", []ledger.Reason{ledger.BrokeOff}},
		"it broke just after, and the daemon stayed away": {"on e 100ms off 10s on e", []ledger.Reason{ledger.BrokeOff}},
		"so did the next connection, without it":          {"on e 117ms off on 66ms off 9s on e", []ledger.Reason{ledger.BrokeOff}},
		"so did the next connection, behind it":           {"on e 117ms off on f 66ms off 9s on e", []ledger.Reason{ledger.BrokeOff}},
		"the next connection has shown nothing":           {"on e off on ?! 10s ?! off on e", []ledger.Reason{ledger.BrokeOff}},
		"back before it was saved":                        {"on e ?! off 1s on e", []ledger.Reason{ledger.BeforeFlush}},
		"back before it was saved, and once more later":   {"on e ?! off 1s on 66ms off 9s on e", []ledger.Reason{ledger.BeforeFlush}},
		"on the same connection":                          {"on e 1s e+", []ledger.Reason{again}},
		"on the same connection, and then on another":     {"on e ?! 10s e+ off on e", []ledger.Reason{again, again}},
		"after a connection that was sound for long":      {"on e ?! 10s off on e", []ledger.Reason{again}},
		"long after the edge had written it":              {"on e ?! off 10s on e", []ledger.Reason{again}},
		"after a later one was sound for long, with it":   {"on e off on e+ ?! 10s off on e", []ledger.Reason{ledger.BrokeOff, again}},
		"after a later one was sound for long, behind it": {"on e off on f ?! 10s off on e", []ledger.Reason{again}},
		"the next connection but one after that":          {"on e off on f ?! 10s off on off on e", []ledger.Reason{again}},
		"after a later one with an ack behind it":         {"on e off on a ack-a ?! ?! 10s off on e", []ledger.Reason{again}},
		"after a later one without an ack behind it":      {"on e off on a ?! ?! 10s off on e", []ledger.Reason{ledger.BrokeOff}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(t, test.words).requireRepeats(t, true, test.reasons...)
		})
	}
	t.Run("disturbed", func(t *testing.T) {
		t.Parallel()
		tell(t, "on e ?! 10s e+ off on e").requireRepeats(t, false, ledger.Disturbed, ledger.Disturbed)
	})
}

// That an event was sent and not acknowledged is in the cursor with whatever else the
// connection has to say, and while it is the newest.
func TestARepeatIsMarkedOnceTheCursorSaysThatItWasSent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		words  string
		reason ledger.Reason
	}{
		"nothing else was settled":               {"on a ?! 10s off on a", ledger.Unacknowledged},
		"another was settled later":              {"on a ?! g ?! 10s off on a", ledger.Unexplained},
		"another was acknowledged later":         {"on a b ?! ack-b ?! ?! 10s off on a", ledger.Unexplained},
		"and it is marked":                       {"on a b ?! ack-b ?! ?! 10s off on a+", ledger.Unacknowledged},
		"another's ack may have come before":     {"on a b ack-a ?! ?! 10s off on b", ledger.Unacknowledged},
		"back before that was saved":             {"on a b ?! ack-b ?! ?! off on a", ledger.Unacknowledged},
		"back before that was saved, once more":  {"on a b ?! ack-b ?! ?! off on off 10s on a", ledger.Unacknowledged},
		"what was acknowledged stays so":         {"on a ack-a ?! ?! off on off 10s on a", ledger.Unexplained},
		"unless the ack may not have come there": {"on a ack-a ?! off on off 10s on a", ledger.AckOnTheWay},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(t, test.words).requireRepeats(t, true, test.reason)
		})
	}
}
