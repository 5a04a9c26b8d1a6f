package edge

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// prepared runs an edge that was changed after it was wired.
func (c *cluster) prepared(cfg Config, prepare func(*Edge)) *node {
	c.t.Helper()
	e, err := New(cfg, quiet())
	require.NoError(c.t, err)
	prepare(e)
	n := &node{Edge: e, t: c.t, stop: runEdge(c.t, e)}
	c.t.Cleanup(n.checkPanics)
	return n
}

func (n *node) eventuallyReady() {
	n.t.Helper()
	require.Eventually(n.t, func() bool { return n.ready() == http.StatusOK }, testserver.Patience, 10*time.Millisecond)
}

// Checked by having open not wait for the list.
func TestNobodyIsLetInBeforeItIsKnownWhatIsRevoked(t *testing.T) {
	t.Parallel()
	forbidden := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.DIRECT.GET.KV_" + revocation.Bucket}}}
	var options *server.Options
	c := &cluster{t: t, nats: testserver.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "all", Password: "p"}, {Username: "edge", Password: "p", Permissions: forbidden}}
		o.NoAuthUser = "all"
		options = o
	})}
	js := c.nats.JetStream()
	c.nc = js.Conn()
	var err error
	c.log, err = eventlog.Open(t.Context(), js, testConfig(c).Log, quiet(), prometheus.NewRegistry())
	require.NoError(t, err)
	c.revoke(revocation.KeyOf(revocation.Token, "jti-1"))
	cfg := testConfig(c)
	cfg.NATS.NATSURL = []settings.URL{settings.URL(strings.Replace(c.nats.ClientURL(), "://", "://edge:p@", 1))}
	n := c.prepared(cfg, func(*Edge) {})

	require.Eventually(t, func() bool {
		_, detail := n.opening.Check()
		return strings.Contains(detail, "reading what is revoked") || n.door.services.Load() != nil
	}, testserver.Patience, time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, n.ready())
	_, res, err := websocket.Dial(t.Context(), n.url(), nil)
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, http.StatusServiceUnavailable, n.request(http.MethodGet, "", "", bearingToken(t, "jti-1")).status)

	mended := *options
	mended.Users = []*server.User{{Username: "all", Password: "p"}, {Username: "edge", Password: "p"}}
	require.NoError(t, c.nats.Server().ReloadOptions(&mended))
	n.eventuallyReady()
	n.expectRefused("orch", "stolen", jti("jti-1"))
	n.login("orch", "stolen", jti("jti-2"))
}

// lookups are identities of whom nothing is remembered: resolve is asked each time.
type lookups struct {
	resolve func(context.Context) (identity.Identity, error)
	found   identity.Identity // by later ones, of many
}

func (l *lookups) Cached(protocol.OrchestratorID) (identity.Identity, bool) {
	return identity.Identity{}, false
}

func (l *lookups) Resolve(ctx context.Context, _ protocol.OrchestratorID) (identity.Identity, error) {
	return l.resolve(ctx)
}

func (l *lookups) ResolveMany(_ context.Context, ids []protocol.OrchestratorID) map[protocol.OrchestratorID]identity.Answer {
	answers := map[protocol.OrchestratorID]identity.Answer{}
	for _, id := range ids {
		answers[id] = identity.Answer{Identity: l.found}
	}
	return answers
}

// lookingUp runs an edge whose admission looks orchestrators up so.
func (c *cluster) lookingUp(l *lookups, prepare func(*Edge)) *node {
	c.t.Helper()
	n := c.prepared(testConfig(c), func(e *Edge) {
		r := newRegistrar(l, FallbackToken, e.metrics, e.logger)
		r.refusals, r.revoker = e.refusals, e.revoker
		e.admission.registrar = r
		prepare(e)
	})
	n.eventuallyReady()
	return n
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(testserver.Patience):
		require.FailNow(t, "nothing has come")
		panic("unreachable")
	}
}

// What is revoked while PostgreSQL is asked was looked for before, and the sweep that
// follows a revocation may have passed by then. Checked by taking the looks at the end
// of an admission and of an extension out, one by one.
func TestWhatIsRevokedWhileADaemonIsLookedUpEndsItsConnection(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	n := c.lookingUp(&lookups{resolve: func(ctx context.Context) (identity.Identity, error) {
		select {
		case asked <- struct{}{}:
			<-answer
			return identity.Identity{Orchestrator: "orch"}, nil
		case <-ctx.Done():
			return identity.Identity{}, ctx.Err()
		}
	}}, func(e *Edge) { e.revoker.connections = func() []*connection { return nil } })
	t.Cleanup(func() { close(answer) })
	revoked := func(id string) {
		key := revocation.KeyOf(revocation.Token, id)
		c.revoke(key)
		require.Eventually(t, func() bool { return n.gate.revoked.Has(key) }, testserver.Patience, time.Millisecond)
	}

	d := n.dial()
	d.send("auth", authPayload(t, "orch", "d", jti("jti-1")))
	receive(t, asked)
	revoked("jti-1")
	answer <- struct{}{}
	d.expectClose(protocol.CloseSessionTerminated)

	d = n.dial()
	d.send("auth", authPayload(t, "orch", "d", jti("jti-2")))
	receive(t, asked)
	answer <- struct{}{}
	d.expect(protocol.TypeAuthSuccess)
	d.send("auth", authPayload(t, "orch", "d", jti("jti-3")))
	receive(t, asked)
	revoked("jti-3")
	answer <- struct{}{}
	d.expectClose(protocol.CloseSessionTerminated)
}

// Regression: of whom was let in while PostgreSQL was away the other id was not known
// afterwards either, and revoking that had no effect.
func TestWhoWasLetInWhilePostgresWasAwayIsRevokedUnderItsOtherID(t *testing.T) {
	t.Parallel()
	away := func(context.Context) (identity.Identity, error) { return identity.Identity{}, identity.ErrUnavailable }
	theirs := identity.Identity{Orchestrator: "vp-1", User: "user-1"}
	for name, test := range map[string]struct {
		given, revoked string
		meanwhile      bool // and not later
	}{
		"its user's, meanwhile": {"vp-1", "user-1", true},
		"its user's, later":     {"vp-1", "user-1", false},
		"its own, meanwhile":    {"user-1", "vp-1", true},
		"its own, later":        {"user-1", "vp-1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			n := c.lookingUp(&lookups{resolve: away, found: theirs}, func(e *Edge) {
				if test.meanwhile { // the sweep that follows the revocation is over by then
					e.revoker.connections = func() []*connection { return nil }
				}
			})
			d := n.login(test.given, "d")
			r := n.admission.registrar
			require.Eventually(t, func() bool { return r.countUnconfirmed() == 1 }, testserver.Patience, time.Millisecond)
			key := revocation.KeyOf(revocation.Orchestrator, test.revoked)
			if test.meanwhile {
				c.revoke(key)
				require.Eventually(t, func() bool { return n.gate.revoked.Has(key) }, testserver.Patience, time.Millisecond)
			}
			d.send("heartbeat", `{}`)
			d.expect(protocol.TypeHeartbeatAck)
			r.recheck(t.Context(), time.Now())
			if !test.meanwhile {
				c.revoke(key)
			}
			d.expectClose(protocol.CloseSessionTerminated)
		})
	}
}
