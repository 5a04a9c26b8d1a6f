package chaos

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// told is a run that has happened: a steady daemon, and when each event was
// published and came, in seconds.
func told(t *testing.T, done []*fault, events map[string][2]float64) *verdict {
	t.Helper()
	c := laidOut(t, 7)
	began := time.Unix(1000, 0)
	now := began
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	c.Ledger = ledger.NewAt(func() time.Time { return now })
	c.healed, c.nemesis.done = time.Unix(1100, 0), done
	c.Crowd = traffic.NewCrowd(c.Ledger, c.URLs(), cluster.Secret)
	seat := c.Crowd.Add("A", traffic.Habit{Name: traffic.Steady}).Profile.Seat
	conn := c.Ledger.Connected(ledger.Connection{Seat: seat, Orchestrator: "A"})
	c.Ledger.Subscribed(conn)
	for id, when := range events {
		now = at(when[0])
		c.Ledger.Published(event.Event{ID: id, Type: "a.b", OrchestratorID: "A", Payload: json.RawMessage(`{}`)})
		now = at(when[1])
		c.Ledger.Received(conn, protocol.Event{EventID: id})
	}
	return &verdict{chaos: c}
}

func fromTo(name string, began, mended, ready int64) *fault {
	x := &fault{name: name, targets: []target{{what: "x"}}, began: time.Unix(1000+began, 0), mended: time.Unix(1000+mended, 0)}
	if ready > 0 {
		x.ready = time.Unix(1000+ready, 0)
	}
	return x
}

func TestLiveDeliveryIsBackWithTheLastLateEventOfAFault(t *testing.T) {
	t.Parallel()
	v := told(t, []*fault{fromTo("kill-edge", 10, 12, 15), fromTo("cut-link", 20, 25, 26)}, map[string][2]float64{
		"before":    {5, 8},      // no fault is to blame
		"late":      {10.5, 14},  // 4 s after the first fault began
		"in time":   {16, 16.9},  // not late at all
		"second":    {21, 28.5},  // 8.5 s after the second
		"third":     {22, 23.5},  // late as well, and here before it
		"recovered": {40, 40.01}, // long over
	})
	outcomes := v.outcomes()
	require.Equal(t, 4*time.Second, outcomes[0].live)
	require.Equal(t, 1, outcomes[0].lateEvents)
	require.Equal(t, 8500*time.Millisecond, outcomes[1].live)
	require.Equal(t, 7500*time.Millisecond, outcomes[1].longest)
	require.Equal(t, 2, outcomes[1].lateEvents)
	var out bytes.Buffer
	require.NoError(t, v.printKinds(&out))
	require.Contains(t, strings.Join(strings.Fields(out.String()), " "), "| kill-edge | 1 | 1 | 2.0 s | 2.0 s | 4.0 s | 4.0 s | 2.0 s | 2.0 s |")
	require.Contains(t, strings.Join(strings.Fields(out.String()), " "), "| cut-link | 1 | 1 | 5.0 s | 5.0 s | 8.5 s | 8.5 s | 3.5 s | 3.5 s |")
}

func TestFaultsThatOverlapCountAndTheirTimesDoNot(t *testing.T) {
	t.Parallel()
	v := told(t, []*fault{fromTo("a", 10, 12, 0), fromTo("b", 12, 14, 18), fromTo("a", 20, 22, 23)}, nil)
	var out bytes.Buffer
	require.NoError(t, v.printKinds(&out))
	require.Contains(t, strings.Join(strings.Fields(out.String()), " "), "| a | 2 | 1 | 2.0 s | 2.0 s | 0.0 s | 0.0 s | 0.0 s | 0.0 s |")
	require.Contains(t, strings.Join(strings.Fields(out.String()), " "), "| b | 1 | 0 | - | - | - | - | - | - |")
}

func TestEventsThatWaitTooLongInTheLogAreFound(t *testing.T) {
	t.Parallel()
	v := told(t, nil, map[string][2]float64{"slow": {10, 45}, "quick": {10, 11}})
	v.judgeWaits()
	require.Len(t, v.Findings(), 1)
	require.Contains(t, v.Findings()[0], "event slow of A")

	v = told(t, nil, map[string][2]float64{"held": {10, 45}})
	v.Ledger.Stored("A", "held", ledger.Place{Sequence: 1, When: time.Unix(1000, 0).Add(44 * time.Second)})
	v.judgeWaits()
	require.Empty(t, v.Findings(), "it was in the log late, and came at once then")
}
