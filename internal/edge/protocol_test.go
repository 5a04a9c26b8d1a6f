package edge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestAConversation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	d := n.dial()

	d.send("heartbeat", `{"status":"active"}`)
	require.Equal(t, "m-heartbeat", d.expectFault(protocol.NotAuthenticated).text("inReplyTo"))

	d.send("auth", authPayload(t, "orch-1", "daemon-1", func(g *auth.Grant) { g.Scopes = []string{"messages:read", "calls:join"} }))
	ok := d.expect(protocol.TypeAuthSuccess)
	require.Len(t, ok.text("sessionId"), 36)
	require.Equal(t, []any{"messages:read", "calls:join"}, ok.Payload["scopes"])
	require.InDelta(t, n.cfg.Sockets.WSHeartbeatInterval.Duration().Milliseconds(), ok.Payload["heartbeatIntervalMs"], 0)
	expires, err := time.Parse(time.RFC3339, ok.text("expiresAt"))
	require.NoError(t, err)
	require.True(t, expires.After(time.Now()))

	d.send("heartbeat", `{"status":"busy","metrics":{"errors":0}}`)
	beat := d.expect(protocol.TypeHeartbeatAck)
	require.NotEmpty(t, beat.text("nextHeartbeat"))

	d.send("subscribe", `{"eventTypes":["message.*","presence.updated","call.started"]}`)
	require.Contains(t, d.expectFault(protocol.ErrorInsufficientScope).text("message"), "presence.updated")
	require.Equal(t, false, d.expect(protocol.TypeSubscribed).Payload["resumed"])

	s := c.publish("orch-1", func(e *event.Event) {
		e.ChannelID, e.WorkspaceID, e.Priority = "ch-1", "ws-1", 3
	})
	c.forward(n, s, 0)
	e := d.expect(protocol.TypeEvent)
	require.Contains(t, e.Raw, `"data":{"content": "héllo",  "n":1.0}`, "the payload goes through byte for byte")
	for field, want := range map[string]any{
		"eventId": s.id, "eventType": "message.received", "requiresAck": true, "channelId": "ch-1", "workspaceId": "ws-1",
		"priority": 3.0, "createdAt": "2026-11-22T10:00:00.000Z",
	} {
		require.Equal(t, want, e.Payload[field], field)
	}
	d.send("ack", `{"eventIds":["`+s.id+`","unknown"]}`)
	n.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "1")

	d.send("unsubscribe", `{"eventTypes":["message.*"]}`)
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
	unwanted := c.publish("orch-1")
	c.forward(n, unwanted, s.sequence)
	call := c.publish("orch-1", func(e *event.Event) { e.Type = "call.started" })
	c.forward(n, call, unwanted.sequence)
	require.Equal(t, call.id, d.expect(protocol.TypeEvent).text("eventId"))

	require.NoError(t, d.conn.Close(websocket.StatusNormalClosure, ""))
	n.eventuallyMetric(`gateway_edge_closes_total{code="NORMAL"}`, "1")
}

func TestBadInputIsAnsweredAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(c *Config) { c.Sockets.RateMessagesPerMinute = 1000 })
	d := n.attach("orch", "daemon", everything)
	cases := map[string]string{
		"not JSON":             `{"type":`,
		"not an object":        `[1,2]`,
		"null":                 `null`,
		"empty":                ``,
		"no type":              `{"id":"1","timestamp":"2026-11-22T10:00:00Z","payload":{}}`,
		"type is a number":     `{"type":1,"id":"1","timestamp":"2026-11-22T10:00:00Z"}`,
		"unknown type":         frameOf("dance", `{}`),
		"a gateway's type":     frameOf("auth_success", `{}`),
		"no id":                `{"type":"heartbeat","timestamp":"2026-11-22T10:00:00Z","payload":{}}`,
		"id too long":          `{"type":"heartbeat","id":"` + strings.Repeat("x", 129) + `","timestamp":"2026-11-22T10:00:00Z"}`,
		"bad timestamp":        `{"type":"heartbeat","id":"1","timestamp":"yesterday"}`,
		"payload is a list":    frameOf("ack", `[]`),
		"nothing to subscribe": frameOf("subscribe", `{"eventTypes":[]}`),
		"types are a text":     frameOf("subscribe", `{"eventTypes":"message.*"}`),
		"bad event type":       frameOf("subscribe", `{"eventTypes":["message"]}`),
		"channel is a number":  frameOf("subscribe", `{"eventTypes":["message.*"],"channelIds":[7]}`),
		"no ack ids":           frameOf("ack", `{"eventIds":[]}`),
		"ack id is null":       frameOf("ack", `{"eventIds":[null]}`),
		"ack of an object":     frameOf("ack", `{"eventIds":{"a":1}}`),
		"auth without token":   frameOf("auth", `{"daemonId":"daemon","orchestratorId":"orch"}`),
		"deeply nested":        frameOf("heartbeat", strings.Repeat(`{"a":`, 3000)+`1`+strings.Repeat(`}`, 3000)),
	}
	for name, text := range cases {
		d.sendRaw(text)
		m, err := d.read()
		require.NoError(t, err, name)
		if name == "deeply nested" { // an unknown field, whatever it holds
			require.Equal(t, protocol.TypeHeartbeatAck, m.Type)
			continue
		}
		require.Equal(t, string(protocol.InvalidMessage), m.text("code"), "%s: %s", name, m.Raw)
	}
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
}

func TestFramesThatEndTheConnection(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	cases := map[string]struct {
		kind websocket.MessageType
		data string
		code protocol.CloseCode
	}{
		"oversize":      {websocket.MessageText, strings.Repeat(" ", 64<<10+1), protocol.CloseTooLarge},
		"binary":        {websocket.MessageBinary, frameOf("heartbeat", `{}`), protocol.CloseUnsupported},
		"invalid UTF-8": {websocket.MessageText, frameOf("heartbeat", "{\"status\":\"\xc3\x28\"}"), protocol.CloseInvalidUTF8},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := n.login("orch "+name, "daemon")
			require.NoError(t, d.conn.Write(t.Context(), c.kind, []byte(c.data)))
			d.expectFault(protocol.InvalidMessage)
			d.expectClose(c.code)
		})
	}
}

func TestRefusedAuthentications(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	payload := func(accessToken, orchestrator, daemon string) string {
		text, err := json.Marshal(map[string]string{"accessToken": accessToken, "orchestratorId": orchestrator, "daemonId": daemon})
		require.NoError(t, err)
		return string(text)
	}
	grant := auth.Grant{Orchestrator: "orch", Daemon: "daemon"}
	expired := grant
	expired.ExpiresAt = time.Now().Add(-time.Hour)
	forged, err := auth.Mint("another-secret-that-has-enough-bytes-too", auth.Grant{Orchestrator: "orch", Daemon: "daemon", ExpiresAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	const none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJvcmNoZXN0cmF0b3JJZCI6Im9yY2giLCJkYWVtb25JZCI6ImRhZW1vbiIsInR5cGUiOiJhY2Nlc3MiLCJleHAiOjk5OTk5OTk5OTl9."
	cases := map[string]struct {
		payload string
		code    protocol.AuthErrorCode
	}{
		"another's orchestrator": {payload(token(t, grant), "other", "daemon"), protocol.AuthFailed},
		"another daemon":         {payload(token(t, grant), "orch", "other"), protocol.AuthFailed},
		"wrong signature":        {payload(forged, "orch", "daemon"), protocol.AuthFailed},
		"alg none":               {payload(none, "orch", "daemon"), protocol.AuthFailed},
		"refresh token":          {payload(refreshToken(t), "orch", "daemon"), protocol.AuthFailed},
		"not a token":            {payload("hello", "orch", "daemon"), protocol.AuthFailed},
		"expired":                {payload(token(t, expired), "orch", "daemon"), protocol.AuthTokenExpired},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := n.dial()
			d.send("auth", c.payload)
			require.Equal(t, string(c.code), d.expect(protocol.TypeAuthError).text("code"))
			d.expectClose(c.code.CloseCode())
		})
	}
	n.eventuallyMetric(`gateway_edge_auth_failures_total{reason="bad_signature"}`, "1")
	n.eventuallyMetric(`gateway_edge_auth_failures_total{reason="wrong_type"}`, "1")
}

// refreshToken is signed like an access token and lives for days.
func refreshToken(t *testing.T) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"orchestratorId": "orch", "daemonId": "daemon", "type": "refresh", "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(secret))
	require.NoError(t, err)
	return text
}

func TestNoAuthenticationInTime(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(c *Config) { c.Sockets.WSAuthTimeout = settings.Milliseconds(100 * time.Millisecond) })
	n.dial().expectClose(protocol.CloseAuthTimeout)
}

func TestMissedHeartbeats(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(c *Config) { c.Sockets.WSHeartbeatInterval = settings.Milliseconds(100 * time.Millisecond) })
	n.login("orch", "daemon").expectClose(protocol.CloseSessionTerminated)
}

func TestATokenThatExpires(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	// Both log in with a token that lives so long, and one shows another before
	// that is over; false if it was over before.
	logIn := func(life time.Duration) (extended, left *client, ok bool) {
		soon := func(g *auth.Grant) { g.ExpiresAt = time.Now().Add(life) }
		extended, left = n.dial(), n.dial()
		extended.send("auth", authPayload(t, "orch", "extended", soon))
		extended.send("auth", authPayload(t, "orch", "extended"))
		left.send("auth", authPayload(t, "orch", "left", soon))
		for _, d := range []*client{extended, extended, left} {
			if m, err := d.read(); err != nil || m.Type != protocol.TypeAuthSuccess {
				return nil, nil, false
			}
		}
		return extended, left, true
	}
	var extended, left *client
	for life, ok := 3*time.Second, false; !ok; life *= 2 {
		extended, left, ok = logIn(life)
	}
	left.expect(protocol.TypeTokenExpiring)
	require.Equal(t, string(protocol.AuthTokenExpired), left.expect(protocol.TypeAuthError).text("code"))
	left.expectClose(protocol.CloseTokenExpired)
	extended.send("heartbeat", `{}`)
	extended.expect(protocol.TypeHeartbeatAck)
}

func TestAnotherAuthMustBeForTheSameSession(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	d := n.login("orch", "daemon")
	d.send("auth", authPayload(t, "other", "daemon"))
	require.Equal(t, string(protocol.AuthFailed), d.expect(protocol.TypeAuthError).text("code"))
	d.expectClose(protocol.CloseAuthFailed)
}

func TestMessagesOverTheLimit(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(c *Config) { c.Sockets.RateMessagesPerMinute = 3 })
	d := n.login("orch", "daemon")
	for range 3 {
		d.send("unsubscribe", `{"eventTypes":["message.*"]}`)
	}
	d.send("unsubscribe", `{"eventTypes":["message.*"]}`)
	m := d.expect(protocol.TypeRateLimit)
	require.InDelta(t, 3, m.Payload["maxRate"], 0)
	require.InDelta(t, 4, m.Payload["currentRate"], 0)
	// Heartbeats and acks are counted apart, and other connections of the
	// orchestrator count together with this one.
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
	d.send("ack", `{"eventIds":["x"]}`)
	other := n.login("orch", "daemon-2")
	other.send("subscribe", `{"eventTypes":["*"]}`)
	other.expect(protocol.TypeRateLimit)
}

func TestScopesLimitWhatAStarDelivers(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	d := n.login("orch", "daemon", func(g *auth.Grant) { g.Scopes = []string{"messages:read"} })
	d.send("subscribe", `{"eventTypes":["*"]}`)
	d.expect(protocol.TypeSubscribed)
	hidden := c.publish("orch", func(e *event.Event) { e.Type = "presence.updated" })
	c.forward(n, hidden, 0)
	shown := c.publish("orch")
	c.forward(n, shown, hidden.sequence)
	require.Equal(t, shown.id, d.expect(protocol.TypeEvent).text("eventId"))
	n.eventuallyMetric(`gateway_edge_events_total{outcome="withheld"}`, "1")
}

func TestSubscriptionsAreLimited(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	d := n.login("orch", "daemon")
	types := func(prefix string, count int) string {
		names := make([]string, count)
		for i := range names {
			names[i] = prefix + "." + strings.Repeat("x", i+1)
		}
		text, err := json.Marshal(map[string]any{"eventTypes": names})
		require.NoError(t, err)
		return string(text)
	}
	d.send("subscribe", types("message", 51))
	d.expectFault(protocol.InvalidMessage)
	d.send("subscribe", types("message", 50))
	d.expect(protocol.TypeSubscribed)
	d.send("subscribe", types("message", 50)) // again the same: nothing is added
	d.send("subscribe", types("channel", 1))
	d.expectFault(protocol.InvalidMessage)
}
