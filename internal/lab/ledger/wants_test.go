package ledger_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// A daemon that wants something else from one connection to the next is owed
// what it wanted from the publish until it came.
func TestADaemonIsOwedWhatItWantsAllTheTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		before, after []protocol.Pattern // of two connections
		between       bool               // published while nobody was there
		lost          bool
	}{
		{"wanted by both", []protocol.Pattern{"call.*"}, []protocol.Pattern{"call.*", "vp.*"}, false, true},
		{"wanted by the later one alone", []protocol.Pattern{"vp.*"}, []protocol.Pattern{"call.*"}, false, false},
		{"not wanted any more", []protocol.Pattern{"call.*"}, []protocol.Pattern{"vp.*"}, false, false},
		{"published meanwhile, and wanted by both", []protocol.Pattern{"call.*"}, []protocol.Pattern{"call.*", "vp.*"}, true, true},
		{"published meanwhile, when the edge may not know yet that the earlier one has gone", []protocol.Pattern{"vp.*"}, []protocol.Pattern{"call.*"}, true, false},
		{"published meanwhile, and not wanted any more", []protocol.Pattern{"call.*"}, []protocol.Pattern{"vp.*"}, true, false},
	} {
		l := ledger.New()
		connect := func(patterns []protocol.Pattern) ledger.ConnID {
			c := ledger.Connection{Seat: "s", Orchestrator: "A", Daemon: "d"}
			for _, p := range patterns {
				c.Subscriptions = append(c.Subscriptions, protocol.Subscription{Pattern: p})
			}
			id := l.Connected(c)
			l.Subscribed(id)
			return id
		}
		publish := func() {
			l.Published(event.Event{ID: "e", Type: "call.started", OrchestratorID: "A", RequiresAck: true, Payload: json.RawMessage(`{}`)})
		}
		first := connect(test.before)
		if !test.between {
			publish()
		}
		l.Closed(first)
		if test.between {
			publish()
		}
		connect(test.after)
		require.Equal(t, test.lost, len(l.Outstanding(ledger.Promise{})) > 0, test.name)
	}
}

// A daemon wants less again later. What an earlier connection wanted and
// skipped was owed to it all the same.
func TestWhatAConnectionSkipsIsLostWhateverTheNextOneWants(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		received []string // by the connection that wants it
		priority int      // of the one behind
		lost     bool
	}{
		"it got what stands behind":                      {[]string{"behind"}, 0, true},
		"it got nothing":                                 {nil, 0, false},
		"what it got may have overtaken":                 {[]string{"behind"}, 1, false},
		"it got the event, and acknowledged only others": {[]string{"e", "behind"}, 0, false},
	} {
		l := ledger.New()
		connect := func(pattern protocol.Pattern) ledger.ConnID {
			id := l.Connected(ledger.Connection{
				Seat: "s", Orchestrator: "A", Daemon: "d", Subscriptions: []protocol.Subscription{{Pattern: pattern}},
			})
			l.Subscribed(id)
			return id
		}
		connect("vp.*")
		all := connect("*")
		for i, id := range []string{"e", "behind"} {
			l.Published(event.Event{ID: id, Type: "call.started", OrchestratorID: "A", RequiresAck: id == "e", Payload: json.RawMessage(`{}`)})
			l.Stored("A", id, ledger.Place{Sequence: uint64(i + 1)})
		}
		for _, id := range test.received {
			priority := 0
			if id == "behind" {
				priority = test.priority
			}
			l.Received(all, protocol.Event{EventID: id, EventType: "call.started", Data: json.RawMessage(`{}`), Priority: priority})
		}
		l.Closed(all)
		connect("vp.*")
		require.Equal(t, test.lost, len(l.Outstanding(ledger.Promise{})) > 0, name)
	}
}
