package protocol_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var now = time.Date(2026, 11, 22, 11, 0, 0, 987_654_321, time.FixedZone("CET", 3600))

// payloadOf takes a frame apart, checks its envelope, and returns its payload's text.
func payloadOf(t *testing.T, frame []byte, kind protocol.MessageType) string {
	t.Helper()
	var envelope struct {
		Type      protocol.MessageType `json:"type"`
		ID        string               `json:"id"`
		Timestamp string               `json:"timestamp"`
		Payload   json.RawMessage      `json:"payload"`
	}
	require.NoError(t, json.Unmarshal(frame, &envelope), string(frame))
	require.Equal(t, kind, envelope.Type)
	require.Equal(t, "2026-11-22T10:00:00.987Z", envelope.Timestamp)
	id, err := uuid.Parse(envelope.ID)
	require.NoError(t, err)
	require.Equal(t, uuid.Version(4), id.Version())
	require.Equal(t, uuid.RFC4122, id.Variant())
	return string(envelope.Payload)
}

func TestFramesOfTheGateway(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		payload protocol.ServerPayload
		want    string
	}{
		"auth_success": {
			protocol.AuthSuccess{SessionID: "s", Scopes: []string{"messages:read", "*"}, ServerTime: now, HeartbeatInterval: 30 * time.Second, ExpiresAt: now},
			`{"sessionId":"s","scopes":["messages:read","*"],"serverTime":"2026-11-22T10:00:00.987Z","heartbeatIntervalMs":30000,"expiresAt":"2026-11-22T10:00:00.987Z"}`,
		},
		"auth_success with little": {
			protocol.AuthSuccess{SessionID: "s", ServerTime: now},
			`{"sessionId":"s","scopes":[],"serverTime":"2026-11-22T10:00:00.987Z","heartbeatIntervalMs":0}`,
		},
		"auth_error":    {protocol.AuthError{Code: protocol.AuthFailed, Message: `say "no"`}, `{"code":"AUTH_FAILED","message":"say \"no\""}`},
		"subscribed":    {protocol.Subscribed{Position: "p", Resumed: true}, `{"position":"p","resumed":true,"truncated":false}`},
		"heartbeat_ack": {protocol.HeartbeatAck{ServerTime: now, NextHeartbeat: now.Add(30 * time.Second)}, `{"serverTime":"2026-11-22T10:00:00.987Z","nextHeartbeat":"2026-11-22T10:00:30.987Z"}`},
		"event": {
			&protocol.Event{
				EventID: "e", EventType: "a.b", Data: []byte(`{ "x" : "<b>" }`), RequiresAck: true, Position: "p", Redelivered: true,
				ChannelID: "c", WorkspaceID: "w", Priority: -3, CreatedAt: "yesterday",
			},
			`{"eventId":"e","eventType":"a.b","data":{ "x" : "<b>" },"requiresAck":true,"position":"p","redelivered":true,"channelId":"c","workspaceId":"w","priority":-3,"createdAt":"yesterday"}`,
		},
		"event with little": {&protocol.Event{EventID: "e", EventType: "a.b", Data: []byte(`{}`)}, `{"eventId":"e","eventType":"a.b","data":{},"requiresAck":false}`},
		"error": {
			&protocol.Fault{Code: protocol.InvalidMessage, Message: "m", Field: "f", Detail: "d", InReplyTo: "i", Close: protocol.CloseTooLarge},
			`{"code":"INVALID_MESSAGE","message":"m","details":{"field":"f","error":"d"},"inReplyTo":"i"}`,
		},
		"error with little": {&protocol.Fault{Code: protocol.InternalError, Message: "m"}, `{"code":"INTERNAL_ERROR","message":"m"}`},
		"rate_limit": {
			protocol.RateLimit{Action: protocol.ActionMessages, RetryAfter: 1001 * time.Millisecond, CurrentRate: 101, MaxRate: 100},
			`{"action":"messages","retryAfter":2,"currentRate":101,"maxRate":100}`,
		},
		"token_expiring": {protocol.TokenExpiring{ExpiresAt: now}, `{"expiresAt":"2026-11-22T10:00:00.987Z"}`},
		"reconnect":      {protocol.Reconnection{Reason: "drain", Delay: 1500 * time.Millisecond}, `{"reason":"drain","delay":1500}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			frame := protocol.AppendFrame([]byte("before"), now, tt.payload)
			text, ok := strings.CutPrefix(string(frame), "before")
			require.True(t, ok)
			require.Equal(t, tt.want, payloadOf(t, []byte(text), tt.payload.Type()))
		})
	}
}

func TestClientReadsWhatTheGatewayWrites(t *testing.T) {
	t.Parallel()
	at := now.UTC().Truncate(time.Millisecond)
	for _, payload := range []protocol.ServerPayload{
		protocol.AuthSuccess{SessionID: "s", Scopes: []string{"a"}, ServerTime: at, HeartbeatInterval: time.Second, ExpiresAt: at},
		protocol.AuthError{Code: protocol.AuthMaxConnections, Message: "m"},
		protocol.Subscribed{Position: "p", Resumed: true, Truncated: true},
		protocol.HeartbeatAck{ServerTime: at, NextHeartbeat: at},
		&protocol.Event{EventID: "e", EventType: "a.b", Data: []byte(`{ "x" : "<b>" }`), RequiresAck: true, Position: "p", Redelivered: true, ChannelID: "c", WorkspaceID: "w", Priority: 2, CreatedAt: "t"},
		&protocol.Fault{Code: protocol.RateLimited, Message: "m", Field: "f", Detail: "d", InReplyTo: "i"},
		protocol.RateLimit{Action: "subscribe", RetryAfter: 2 * time.Second, CurrentRate: 3, MaxRate: 4},
		protocol.TokenExpiring{ExpiresAt: at},
		protocol.Reconnection{Reason: "r", Delay: time.Second},
	} {
		m, err := protocol.ParseServerMessage(protocol.AppendFrame(nil, now, payload))
		require.NoError(t, err)
		require.Equal(t, payload.Type(), m.Type)
		require.NotEmpty(t, m.ID)
		require.Equal(t, payload, m.Payload)
	}
}

func TestClientIsLenientWithTheGateway(t *testing.T) {
	t.Parallel()
	m, err := protocol.ParseServerMessage([]byte(`{"type":"novelty","payload":[1]}`))
	require.NoError(t, err)
	require.Equal(t, protocol.ServerMessage{Type: "novelty"}, m)

	m, err = protocol.ParseServerMessage([]byte(`{"type":"heartbeat_ack","payload":{"serverTime":12345,"nextHeartbeat":"soon"}}`))
	require.NoError(t, err)
	require.Equal(t, protocol.HeartbeatAck{}, m.Payload)

	m, err = protocol.ParseServerMessage([]byte(`{"type":"reconnect"}`))
	require.NoError(t, err)
	require.Equal(t, protocol.Reconnection{}, m.Payload)

	m, err = protocol.ParseServerMessage([]byte(`{"type":"rate_limit","payload":{"retryAfter":0.5,"maxRate":1.5}}`))
	require.NoError(t, err)
	require.Equal(t, protocol.RateLimit{RetryAfter: 500 * time.Millisecond, MaxRate: 1}, m.Payload)

	for delay, want := range map[string]time.Duration{"-5": 0, "1e300": 24 * time.Hour} {
		m, err = protocol.ParseServerMessage([]byte(`{"type":"reconnect","payload":{"delay":` + delay + `}}`))
		require.NoError(t, err)
		require.Equal(t, protocol.Reconnection{Delay: want}, m.Payload)
	}

	_, err = protocol.ParseServerMessage([]byte(`[]`))
	require.ErrorContains(t, err, "read envelope")
	m, err = protocol.ParseServerMessage([]byte(`{"type":"event","payload":{"eventId":7}}`))
	require.ErrorContains(t, err, "payload of event")
	require.Equal(t, protocol.TypeEvent, m.Type)
}

// Invariant: the payload reaches the daemon byte for byte.
func TestDataIsWrittenByteForByte(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		"{}", "{ \"a\" :\t1.0e+2,\r\n \"a\": \"<&>\" }", `{"u":"\u00fc\/ü` + "\u2028" + `😀","big":12345678901234567890}`,
	} {
		frame := protocol.AppendEvent(nil, now, &protocol.Event{EventID: "e", EventType: "a.b", Data: []byte(data)})
		require.Contains(t, string(frame), `"data":`+data+`,"requiresAck"`)
		m, err := protocol.ParseServerMessage(frame)
		require.NoError(t, err)
		require.Equal(t, data, string(m.Payload.(*protocol.Event).Data))
	}
}

func TestAppendingAnEventDoesNotAllocate(t *testing.T) {
	e := &protocol.Event{EventID: "e", EventType: "a.b", Data: []byte(`{"a":1}`), Position: "p", ChannelID: "c", CreatedAt: "t", Priority: 1}
	buf := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = protocol.AppendEvent(buf[:0], now, e) }))
}

func TestMessageIDsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		m, err := protocol.ParseServerMessage(protocol.AppendFrame(nil, now, protocol.TokenExpiring{}))
		require.NoError(t, err)
		require.False(t, seen[m.ID])
		seen[m.ID] = true
	}
}

func TestMetricsThatAreNotJSONAreRefusedAtTheClient(t *testing.T) {
	t.Parallel()
	_, _, err := protocol.EncodeClientMessage(now, protocol.Heartbeat{Metrics: []byte(`{"x":`)})
	require.ErrorContains(t, err, "encode heartbeat message")
}

func FuzzTextsAreEscaped(f *testing.F) {
	f.Add("plain", `q"b\`)
	f.Add("\x00\x1f\n", "ü\u2028<b>")
	f.Add("\xff", "a\xc3")
	f.Fuzz(func(t *testing.T, id, channel string) {
		frame := protocol.AppendEvent(nil, now, &protocol.Event{EventID: id, EventType: "a.b", Data: []byte("{}"), ChannelID: channel})
		require.True(t, utf8.Valid(frame))
		m, err := protocol.ParseServerMessage(frame)
		require.NoError(t, err)
		e := m.Payload.(*protocol.Event)
		require.Equal(t, []string{replaced(id), replaced(channel)}, []string{e.EventID, e.ChannelID})
	})
}

// replaced is s with each invalid byte replaced, as JSON texts must have it.
func replaced(s string) string { return string([]rune(s)) }

func BenchmarkAppendEvent(b *testing.B) {
	e := &protocol.Event{EventID: "event_1732291200000_6f9619ff", EventType: "message.received", Data: []byte(`{"content":"` + strings.Repeat("x", 300) + `"}`), RequiresAck: true, Position: "0003.00", ChannelID: "c"}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = protocol.AppendEvent(buf[:0], now, e)
	}
}
