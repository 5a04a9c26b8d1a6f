package protocol_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// What a daemon can make something of, the gateway can have sent: written again
// it is read as the same.
func FuzzParseServerMessage(f *testing.F) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, text := range []string{
		`{"type":"auth_success","id":"1","payload":{"sessionId":"s","scopes":["*"],"serverTime":"2026-11-22T10:00:00.000Z","heartbeatIntervalMs":30000,"expiresAt":1795345200}}`,
		`{"type":"auth_error","payload":{"code":"AUTH_FAILED","message":"no"}}`,
		`{"type":"event","id":"1","payload":{"id":"e","type":"a.b","data":{"a":1},"position":"p","requiresAck":true}}`,
		`{"type":"error","payload":{"code":"INVALID_MESSAGE","message":"m","inReplyTo":"x"}}`,
		`{"type":"rate_limit","payload":{"retryAfterMs":1e300}}`,
		`{"type":"token_expiring","payload":{"expiresAt":"soon"}}`,
		`{"type":"reconnect","payload":{"delayMs":-1,"reason":"drain"}}`,
		`{"type":"subscribed","payload":{"eventTypes":["*"]}}`,
		`{"type":"later"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := protocol.ParseServerMessage(data)
		if err != nil {
			require.Nil(t, m.Payload)
			quotetest.RequireLittle(t, data, err)
			return
		}
		if m.Payload == nil {
			return
		}
		require.Equal(t, m.Type, m.Payload.Type())
		if e, ok := m.Payload.(*protocol.Event); ok && len(e.Data) == 0 {
			return // the gateway always has data
		}
		frame := protocol.AppendFrame(nil, now, m.Payload)
		require.True(t, json.Valid(frame), "%s", frame)
		again, err := protocol.ParseServerMessage(frame)
		require.NoError(t, err, "%s", frame)
		require.Equal(t, m.Type, again.Type)
		rewritten := protocol.AppendFrame(nil, now, again.Payload)
		require.Equal(t, len(frame), len(rewritten), "%s became %s", frame, rewritten)
	})
}
