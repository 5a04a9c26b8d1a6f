package edge

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// audited is an edge whose log is kept, everything of it.
func (c *cluster) audited(change ...func(*Config)) (*node, *testserver.Journal) {
	c.t.Helper()
	j := &testserver.Journal{}
	cfg := testConfig(c)
	cfg.NodeName = "audited"
	for _, f := range change {
		f(&cfg)
	}
	e, err := New(cfg, slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(c.t, err)
	n := &node{Edge: e, t: c.t, stop: runEdge(c.t, e)}
	require.Eventually(c.t, func() bool { return n.ready() == http.StatusOK }, testserver.Patience, 10*time.Millisecond)
	return n, j
}

// one waits for the only audit line of a kind, and expects what it says.
func one(t *testing.T, j *testserver.Journal, act string, want map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool { return len(j.Audited("act", act)) > 0 }, testserver.Patience, 5*time.Millisecond, act)
	all := j.Audited("act", act)
	require.Len(t, all, 1)
	require.Equal(t, "INFO", all[0]["level"])
	require.Equal(t, "audited", all[0]["node"])
	for name, value := range want {
		require.Equal(t, value, all[0][name], "%s of %v", name, all[0])
	}
}

func TestTheAuditLogSaysWhoWasLetInAndWhoWasNot(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, j := c.audited(func(cfg *Config) { cfg.Sockets.RateMessagesPerMinute = 1 })
	good := token(t, auth.Grant{Orchestrator: "orch", Daemon: "daemon", TokenID: "jti-1"})
	d := n.dial()
	d.send("auth", authPayload(t, "orch", "daemon", jti("jti-1")))
	session := d.expect(protocol.TypeAuthSuccess).text("sessionId")
	who := map[string]any{"orchestrator": "orch", "daemon": "daemon", "session": session, "address": "127.0.0.1"}
	one(t, j, "session_began", who)
	one(t, j, "session_began", map[string]any{"token_id": "jti-1"})

	d.send("subscribe", `{"eventTypes":["*"]}`)
	d.send("subscribe", `{"eventTypes":["*"]}`)
	one(t, j, "over_limit", who)
	one(t, j, "over_limit", map[string]any{"reason": "messages"})

	forged, err := auth.Mint("another-secret-that-has-enough-bytes-too", auth.Grant{Orchestrator: "orch", Daemon: "forger", ExpiresAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	f := n.dial()
	f.send("auth", `{"accessToken":"`+forged+`","daemonId":"forger","orchestratorId":"orch"}`)
	f.expectClose(protocol.CloseAuthFailed)
	one(t, j, "token_refused", map[string]any{"reason": "bad_signature", "orchestrator": "orch", "daemon": "forger", "address": "127.0.0.1"})

	require.Equal(t, http.StatusMethodNotAllowed, n.request(http.MethodPut, "", "", bearing(good)).status)
	one(t, j, "request_refused", map[string]any{"method": "other", "address": "127.0.0.1", "status": 405.0})

	c.revoke(revocation.KeyOf(revocation.Token, "jti-1"))
	d.expectClose(protocol.CloseSessionTerminated)
	one(t, j, "operator_acted", map[string]any{"reason": "revoked", "key": "token.jti-1"})
	one(t, j, "session_ended", who)
	one(t, j, "session_ended", map[string]any{"reason": "SESSION_TERMINATED", "code": 4006.0, "close_reason": "revoked"})

	n.stop()
	for name, text := range map[string]string{"the secret": string(secret), "a token": good, "its signature": good[strings.LastIndexByte(good, '.'):], "a forged token": forged} {
		require.NotContains(t, j.String(), text, name)
	}
}

func TestAConnectionThatIsTurnedAwayIsAudited(t *testing.T) {
	t.Parallel()
	n, j := newCluster(t).audited(func(cfg *Config) { cfg.Listen.RateConnectsPerIP = 1 })
	ctx, cancel := context.WithTimeout(t.Context(), testserver.Patience)
	defer cancel()
	status := http.StatusOK
	for status != http.StatusTooManyRequests {
		require.NoError(t, ctx.Err())
		conn, res, err := websocket.Dial(ctx, n.url(), nil)
		require.NotNil(t, res, "%v", err)
		status = res.StatusCode
		if err == nil {
			_ = conn.CloseNow()
		}
	}
	one(t, j, "connection_refused", map[string]any{"reason": "rate", "address": "127.0.0.1"})
}

// Nothing is read of who may not connect at all; where he came from is known.
func TestWhoIsClosedAtOnceIsAudited(t *testing.T) {
	t.Parallel()
	n, j := newCluster(t).audited(func(cfg *Config) {
		cfg.Listen.Access.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	if conn, err := net.Dial("tcp", n.Addr().String()); err == nil { // else it was closed before Dial returned
		require.NoError(t, conn.Close())
	}
	one(t, j, "connection_refused", map[string]any{"reason": "address", "address": "127.0.0.1"})
}
