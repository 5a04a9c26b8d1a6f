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
	require.Equal(t, []Beat{{Status: protocol.StatusBusy, Metrics: map[string]float64{"errors": 3}}},
		beats(x.say("heartbeat", `{"status":"busy","metrics":{"errors":3}}`)))
	require.Equal(t, []Beat{{Status: protocol.StatusBusy}}, beats(x.say("heartbeat", `{}`)), "unchanged where it does not say")
}

func TestAHeartbeatThatIsRefusedIsNotPassedOn(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	require.Empty(t, beats(x.say("heartbeat", `{"status":"asleep"}`)))
	for range 5 {
		require.Len(t, beats(x.say("heartbeat", `{}`)), 1)
	}
	effects := x.say("heartbeat", `{}`)
	require.True(t, limited(effects))
	require.Empty(t, beats(effects))
	require.Empty(t, beats(newTalk(t).say("heartbeat", `{}`)), "not authenticated")
}
