package e2e_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// step returns the n-th report of a step.
func step(t *testing.T, lines []line, name string, n int) line {
	t.Helper()
	for _, l := range lines {
		if l.Step != name {
			continue
		}
		if n == 0 {
			return l
		}
		n--
	}
	require.Failf(t, "no such step", "%s is not among %+v", name, lines)
	return line{}
}

// requireMessage returns the payload of a well-formed message.
func requireMessage(t *testing.T, l line, kind string) map[string]any {
	t.Helper()
	require.Nil(t, l.Close, "closed instead of %s: %s", kind, l.Reason)
	require.True(t, l.Text, "%s is not a text frame", kind)
	require.Equal(t, kind, l.Message.Type, "%+v", l)
	require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, l.Message.ID)
	requireTime(t, l.Message.Timestamp)
	return l.Message.Payload
}

func requireTime(t *testing.T, text any) {
	t.Helper()
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, text)
}

func requireError(t *testing.T, l line, code string) map[string]any {
	t.Helper()
	payload := requireMessage(t, l, "error")
	require.Equal(t, code, payload["code"])
	require.NotEmpty(t, payload["message"])
	if l.Sent != "" {
		require.Equal(t, l.Sent, payload["inReplyTo"])
	}
	return payload
}

// requireClose looks at the last report, which must be the close. Only errors
// may come before it.
func requireClose(t *testing.T, lines []line, name string, code int) {
	t.Helper()
	require.NotEmpty(t, lines)
	last := lines[len(lines)-1]
	require.Equal(t, name, last.Step)
	require.NotNil(t, last.Close, "%+v", last)
	require.Equal(t, code, *last.Close, last.Reason)
	for _, l := range lines[:len(lines)-1] {
		if l.Step == name {
			requireMessage(t, l, "error")
		}
	}
}

func checkConversation(t *testing.T, lines []line) {
	requireError(t, step(t, lines, "before auth", 0), "NOT_AUTHENTICATED")

	success := requireMessage(t, step(t, lines, "auth", 0), "auth_success")
	require.NotEmpty(t, success["sessionId"])
	require.Equal(t, []any{"*"}, success["scopes"])
	require.EqualValues(t, 30_000, success["heartbeatIntervalMs"])
	requireTime(t, success["serverTime"])
	requireTime(t, success["expiresAt"])

	subscribed := requireMessage(t, step(t, lines, "subscribe", 0), "subscribed")
	require.Equal(t, false, subscribed["resumed"])
	require.Equal(t, false, subscribed["truncated"])
	require.NotEmpty(t, subscribed["position"])

	received := requireMessage(t, step(t, lines, "event", 0), "event")
	require.Greater(t, received["position"], subscribed["position"])
	delete(received, "position")
	require.Equal(t, map[string]any{
		"eventId": "event_1", "eventType": "message.received", "data": map[string]any{"content": "grüße 😀", "n": 1.5},
		"requiresAck": true, "priority": 3.0, "channelId": "c1", "workspaceId": "w1", "createdAt": "2026-11-22T10:00:00.000Z",
	}, received)

	beat := requireMessage(t, step(t, lines, "heartbeat", 0), "heartbeat_ack")
	requireTime(t, beat["serverTime"])
	next, err := time.Parse(time.RFC3339, beat["nextHeartbeat"].(string))
	require.NoError(t, err)
	now, err := time.Parse(time.RFC3339, beat["serverTime"].(string))
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, next.Sub(now))

	for _, name := range []string{"not JSON", "not an object", "wrong type", "unknown type"} {
		requireError(t, step(t, lines, name, 0), "INVALID_MESSAGE")
	}
	fault := requireError(t, step(t, lines, "bad name", 0), "INVALID_MESSAGE")
	require.Contains(t, fault["details"].(map[string]any)["field"], "eventTypes")
	require.Equal(t, "event_2", requireMessage(t, step(t, lines, "event", 1), "event")["eventId"])

	again := requireMessage(t, step(t, lines, "auth", 1), "auth_success")
	require.Equal(t, success["sessionId"], again["sessionId"], "a fresh token extends the session")
	requireClose(t, lines, "closed", 1000)
}

func checkResumption(t *testing.T, lines []line) {
	subscribed := requireMessage(t, step(t, lines, "subscribe", 0), "subscribed")
	require.Equal(t, true, subscribed["resumed"])
	repeat := requireMessage(t, step(t, lines, "repeat", 0), "event")
	require.Equal(t, "event_2", repeat["eventId"], "event_1 was acknowledged")
	require.Equal(t, true, repeat["redelivered"])
	require.Equal(t, map[string]any{}, repeat["data"])
	require.Equal(t, "event_3", requireMessage(t, step(t, lines, "event", 0), "event")["eventId"])
}

func refusedWith(code string, closed int) func(*testing.T, []line) {
	return func(t *testing.T, lines []line) {
		refusal := requireMessage(t, step(t, lines, "auth", 0), "auth_error")
		require.Equal(t, code, refusal["code"])
		require.NotEmpty(t, refusal["message"])
		requireClose(t, lines, "closed", closed)
	}
}

func checkSuccessor(t *testing.T, lines []line) {
	requireMessage(t, step(t, lines, "auth", 0), "auth_success")
	requireMessage(t, step(t, lines, "auth", 1), "auth_success")
	older := step(t, lines, "older closed", 0)
	require.NotNil(t, older.Close, "%+v", older)
	require.Equal(t, 4006, *older.Close)
	requireMessage(t, step(t, lines, "newer lives", 0), "heartbeat_ack")
}

func checkCrowd(t *testing.T, lines []line) {
	for i := range connectionLimit {
		requireMessage(t, step(t, lines, "auth", i), "auth_success")
	}
	refusal := requireMessage(t, step(t, lines, "auth", connectionLimit), "auth_error")
	require.Equal(t, "MAX_CONNECTIONS", refusal["code"])
	requireClose(t, lines, "closed", 4006)
}
