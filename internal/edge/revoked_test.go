package edge

import (
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// revoke does what an operator, or a bridge, does.
func (c *cluster) revoke(key revocation.Key) {
	c.t.Helper()
	_, err := c.revocations().Put(c.t.Context(), string(key), revocation.Entry{Until: time.Now().Add(time.Hour)}.Encode())
	require.NoError(c.t, err)
}

func (c *cluster) revocations() jetstream.KeyValue {
	c.t.Helper()
	bucket, err := c.nats.JetStream().KeyValue(c.t.Context(), revocation.Bucket)
	require.NoError(c.t, err)
	return bucket
}

func jti(id string) func(*auth.Grant) { return func(g *auth.Grant) { g.TokenID = id } }

func bearingToken(t *testing.T, id string) func(*http.Request) {
	t.Helper()
	return bearing(token(t, auth.Grant{Orchestrator: "orch", Daemon: "stolen", TokenID: id}))
}

// expectRefused logs in and expects to be turned away for good.
func (n *node) expectRefused(orchestrator, daemon string, change ...func(*auth.Grant)) {
	n.t.Helper()
	d := n.dial()
	d.send("auth", authPayload(n.t, orchestrator, daemon, change...))
	m := d.expect(protocol.TypeAuthError)
	require.Equal(n.t, string(protocol.AuthFailed), m.text("code"))
	require.Equal(n.t, "the access token has been revoked", m.text("message"))
	d.expectClose(protocol.CloseAuthFailed)
}

func TestARevocationEndsLiveConnectionsAndKeepsNewOnesOut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key          revocation.Key
		orchestrator string // of one who stays
		daemon       string
		token        string
	}{
		"a token":         {revocation.KeyOf(revocation.Token, "jti-1"), "orch", "other", "jti-2"},
		"a daemon":        {revocation.KeyOf(revocation.Daemon, "stolen"), "orch", "other", "jti-1"},
		"an orchestrator": {revocation.KeyOf(revocation.Orchestrator, "orch"), "other", "other", "jti-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			n, second := c.edge(), c.edge()
			stays := second.login(test.orchestrator, test.daemon, jti(test.token))
			goes := n.login("orch", "stolen", jti("jti-1"))
			require.Equal(t, http.StatusOK, n.request(http.MethodGet, "", "", bearingToken(t, "jti-1")).status)

			c.revoke(test.key)
			goes.expectClose(protocol.CloseSessionTerminated)
			n.expectRefused("orch", "stolen", jti("jti-1"))
			a := n.request(http.MethodGet, "", "", bearingToken(t, "jti-1"))
			require.Equal(t, http.StatusUnauthorized, a.status)
			require.Equal(t, "the access token has been revoked", a.Error)
			n.eventuallyMetric(`gateway_edge_terminations_total{reason="revoked"}`, "1")

			stays.send("heartbeat", `{}`)
			stays.expect(protocol.TypeHeartbeatAck)
		})
	}
}

func TestARevocationOutlivesRestartsAndEndsWithItsEntry(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.revoke(revocation.KeyOf(revocation.Token, "jti-1"))
	n := c.edge()
	n.expectRefused("orch", "stolen", jti("jti-1"))
	n.stop()
	c.nats.Restart()
	n = c.edge()
	n.expectRefused("orch", "stolen", jti("jti-1"))
	require.NoError(t, c.revocations().Delete(t.Context(), string(revocation.KeyOf(revocation.Token, "jti-1"))))
	require.Eventually(t, func() bool { return n.gate.revoked.Empty() }, testserver.Patience, 5*time.Millisecond)
	n.login("orch", "stolen", jti("jti-1"))
}

// A token that names the orchestrator by its other id is no way around, whichever
// was revoked.
func TestAnOrchestratorIsRevokedUnderEitherOfItsIDs(t *testing.T) {
	t.Parallel()
	for _, ids := range [][2]string{{"vp-1", "user-1"}, {"user-1", "vp-1"}} {
		t.Run("revoked as "+ids[0], func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			n := c.edge(onDatabase(neolith(t).URL()))
			live := n.login(ids[1], "daemon")
			c.revoke(revocation.KeyOf(revocation.Orchestrator, ids[0]))
			live.expectClose(protocol.CloseSessionTerminated)
			for _, id := range ids {
				n.expectRefused(id, "daemon")
				require.Equal(t, http.StatusUnauthorized, n.request(http.MethodGet, "", "", as(t, id, "daemon")).status)
			}
		})
	}
}

// Where a daemon may have another id than its token's, that id counts.
func TestADaemonIsRevokedUnderTheIDThatItClaims(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Auth.JWTBindDaemonID = false })
	other := func(g *auth.Grant) { g.Daemon = "" }
	live := n.login("orch", "stolen", other)
	c.revoke(revocation.KeyOf(revocation.Daemon, "stolen"))
	live.expectClose(protocol.CloseSessionTerminated)
	n.expectRefused("orch", "stolen", other)
}

func TestAnEdgeThatCannotReadRevocationsKeepsThemAndSaysSo(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.revoke(revocation.KeyOf(revocation.Token, "jti-1"))
	n := c.edge()
	n.eventuallyMetric("gateway_edge_revocations_current", "1")
	require.NoError(t, c.nats.JetStream().DeleteKeyValue(t.Context(), revocation.Bucket))
	n.eventuallyMetric("gateway_edge_revocations_current", "0")
	require.False(t, n.check("revocations").Ready)
	require.Equal(t, http.StatusOK, n.ready(), "it serves the others")
	n.expectRefused("orch", "stolen", jti("jti-1"))
}
