package conversation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func beats(effects []Effect) (out []Beat) {
	for _, e := range effects {
		if b, ok := e.(Beat); ok {
			out = append(out, b)
		}
	}
	return out
}

func TestAnAcceptedHeartbeatIsPassedOn(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	require.Equal(t, []Beat{{}}, beats(x.say("heartbeat", `{}`)))
	require.Equal(t, []Beat{{Status: protocol.StatusBusy, Metrics: []byte(`{"errors":3}`)}},
		beats(x.say("heartbeat", `{"status":"busy","metrics":{"errors":3}}`)))
	require.Equal(t, []Beat{{Status: protocol.StatusBusy}}, beats(x.say("heartbeat", `{}`)), "unchanged where it does not say")
}

func TestAHeartbeatThatIsRefusedIsNotPassedOn(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	for range 5 {
		require.Len(t, beats(x.say("heartbeat", `{}`)), 1)
	}
	effects := x.say("heartbeat", `{}`)
	require.True(t, limited(effects))
	require.Empty(t, beats(effects))
	require.Empty(t, beats(newTalk(t).say("heartbeat", `{}`)), "not authenticated")
}

// A daemon with metrics that nobody had thought of was told INVALID_MESSAGE for
// each of its heartbeats, and disconnected after the third.
func TestAHeartbeatIsASignOfLifeWhateverItSays(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	for range 10 {
		x.say("heartbeat", `{"status":"dreaming","metrics":[1],"inProgress":{}}`)
		require.Empty(t, x.tickTo(x.now.Add(80*time.Second)))
	}
	require.True(t, x.Authenticated())
	x.Message([]byte(`{"type":"heartbeat","id":"1","timestamp":"yesterday"}`), x.now)
	require.Equal(t, protocol.InvalidMessage, x.Take()[0].(Reply).Payload.(*protocol.Fault).Code)
	require.Empty(t, x.tickTo(x.now.Add(80*time.Second)), "not carried out, but said")
}

func TestWhatIsLeftOutIsToldOnceAndCountedAlways(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	for i := range 3 {
		effects := x.say("heartbeat", `{"status":"dreaming","metrics":{"a":1}}`)
		require.Equal(t, protocol.TypeHeartbeatAck, effects[0].(Reply).Payload.Type())
		require.Equal(t, Beat{Metrics: []byte(`{"a":1}`)}, effects[1])
		require.Equal(t, LeftOut{Fields: []string{"status"}, Detail: "status: expected active, idle or busy", First: i == 0}, effects[2])
		if i > 0 {
			require.Len(t, effects, 3)
			continue
		}
		fault := effects[3].(Reply).Payload.(*protocol.Fault)
		require.Equal(t, "payload.status", fault.Field)
		require.Equal(t, "m2", fault.InReplyTo)
	}
}

// listener is a session that keeps what it is told.
type listener struct {
	Delivery
	heard      []time.Time
	inProgress []string
}

func (l *listener) Heard(now time.Time) { l.heard = append(l.heard, now) }

func (l *listener) InProgress(ids []string, _ time.Time) int {
	l.inProgress = append(l.inProgress, ids...)
	return len(ids)
}

func TestTheSessionHearsOfEveryMessageAndOfWorkInProgress(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	l := &listener{Delivery: x.delivery}
	x.delivery = l
	var said []time.Time
	for _, m := range []string{"heartbeat", "dance", "heartbeat"} {
		x.now = x.now.Add(time.Second)
		said = append(said, x.now)
		x.say(m, `{"inProgress":["e1",7,"e2"]}`)
	}
	require.Equal(t, said, l.heard)
	require.Equal(t, []string{"e1", "e2", "e1", "e2"}, l.inProgress)
}
