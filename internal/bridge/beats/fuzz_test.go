package beats

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Whatever edges send, what Neolith reads of it is JSON.
func FuzzBeats(f *testing.F) {
	f.Add([]byte(`[{"orchestratorId":"vp","daemonId":"d","sessionId":"s","status":"busy","report":{"errors":3},"receivedAt":"2026-11-22T10:00:00.123Z","organizationId":"org"}]`))
	f.Add([]byte(`[{"orchestratorId":"vp","daemonId":"d","report":{},"opened":true},{"orchestratorId":"vp","daemonId":"d","metrics":[7]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		received, _ := heartbeat.Decode(data)
		for _, h := range received {
			b, err := newBeat(h, time.Now())
			require.NoError(t, err)
			for _, text := range [][]byte{b.record, b.route, b.notice} {
				var fields map[string]any
				require.NoError(t, json.Unmarshal(text, &fields), "%s", text)
			}
			if b.metrics != nil {
				var fields map[string]any
				require.NoError(t, json.Unmarshal(b.metrics, &fields), "%s", b.metrics)
				require.Equal(t, b.received, fields["timestamp"])
			}
			require.False(t, b.supersededBy([]byte(`{}`)) && !b.receivedAt.IsZero())
		}
	})
}

// Of Neolith's session only the time of the last heartbeat is changed, forward,
// and of another orchestrator's nothing.
func FuzzSessions(f *testing.F) {
	f.Add(`{"orchestratorId":"vp","daemonId":"d","lastHeartbeat":"2026-11-22T09:00:00.000Z"}`, "vp")
	f.Add(`{"orchestratorId":"vp","lastHeartbeat":1795341600000,"scopes":[1e3, "\u00e9"]}`, "vp")
	f.Add(`{"orchestratorId":"other","lastHeartbeat":null}`, "vp")
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, session, orchestrator string) {
		moved, ok := movedOn(session, protocol.OrchestratorID(orchestrator), at)
		if !ok {
			require.Empty(t, moved)
			return
		}
		var before, after map[string]any
		require.NoError(t, json.Unmarshal([]byte(session), &before))
		require.NoError(t, json.Unmarshal([]byte(moved), &after))
		require.NotNil(t, after["lastHeartbeat"])
		delete(before, "lastHeartbeat")
		delete(after, "lastHeartbeat")
		require.Equal(t, before, after)
		again, ok := movedOn(moved, protocol.OrchestratorID(orchestrator), at)
		require.False(t, ok, "it became %s", again)
	})
}
