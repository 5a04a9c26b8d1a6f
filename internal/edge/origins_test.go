package edge

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// originsFile has an edge limit orchestrators by a file, which write replaces.
func originsFile(t *testing.T, text string) (change func(*Config), write func(text string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "origins")
	write = func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write(text)
	return func(cfg *Config) { cfg.Listen.OriginsFile = file }, write
}

func onlyFrom(ranges ...string) func(*auth.Grant) {
	return func(g *auth.Grant) { g.AllowedCIDRs = ranges }
}

// requireElsewhere expects a daemon to be turned away for where it comes from.
func (c *client) requireElsewhere() {
	c.t.Helper()
	m := c.expect(protocol.TypeAuthError)
	require.Equal(c.t, string(protocol.AuthFailed), m.text("code"))
	require.Equal(c.t, "the access token may not be used from this address", m.text("message"))
	c.expectClose(protocol.CloseAuthFailed)
}

func (n *node) refusesFromHere(orchestrator string, change ...func(*auth.Grant)) {
	n.t.Helper()
	d := n.dial()
	d.send("auth", authPayload(n.t, orchestrator, "d", change...))
	d.requireElsewhere()
}

func TestATokenIsOfUseOnlyFromTheAddressesThatItNames(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) { cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8") })
	n.login("orch", "d", onlyFrom("192.0.2.0/24", "127.0.0.1"))
	n.refusesFromHere("orch", onlyFrom("192.0.2.0/24"))
	n.eventuallyMetric(`gateway_edge_auth_failures_total{reason="wrong_address"}`, "1")

	// Behind a load balancer the daemon's own address counts, by HTTP as well.
	behind := http.Header{"X-Forwarded-For": {"192.0.2.9"}}
	conn, _, err := websocket.Dial(t.Context(), n.url(), &websocket.DialOptions{HTTPHeader: behind})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	d := &client{t: t, conn: conn}
	d.send("auth", authPayload(t, "orch", "behind", onlyFrom("192.0.2.0/24")))
	d.expect(protocol.TypeAuthSuccess)
	bearer := bearing(token(t, auth.Grant{Orchestrator: "orch", Daemon: "d", AllowedCIDRs: []string{"192.0.2.0/24"}}))
	a := n.request(http.MethodGet, "", "", bearer)
	require.Equal(t, http.StatusUnauthorized, a.status)
	require.Equal(t, "the access token may not be used from this address", a.Error)
	a = n.request(http.MethodGet, "", "", bearer, func(r *http.Request) { r.Header["X-Forwarded-For"] = behind["X-Forwarded-For"] })
	require.Equal(t, http.StatusOK, a.status)
}

// A token that is good elsewhere extends no session here.
func TestASessionIsNotExtendedWithATokenForAnotherAddress(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	d := n.login("orch", "d")
	d.send("auth", authPayload(t, "orch", "d", onlyFrom("127.0.0.0/8")))
	d.expect(protocol.TypeAuthSuccess)
	d.send("auth", authPayload(t, "orch", "d", onlyFrom("192.0.2.0/24")))
	d.requireElsewhere()
}

func TestFromWhereAnOrchestratorMayComeIsReadAgain(t *testing.T) {
	t.Parallel()
	limit, write := originsFile(t, "orch 127.0.0.0/8\nother 192.0.2.0/24\n")
	n := newCluster(t).edge(limit)
	goes, stays := n.login("orch", "d"), n.login("free", "d")
	n.refusesFromHere("other")
	require.Equal(t, http.StatusUnauthorized, n.request(http.MethodGet, "", "", as(t, "other", "d")).status)

	write("orch 192.0.2.0/24\n")
	goes.expectClose(protocol.CloseSessionTerminated)
	n.eventuallyMetric(`gateway_edge_terminations_total{reason="address"}`, "1")
	n.refusesFromHere("orch")
	n.login("other", "d")
	stays.send("heartbeat", `{}`)
	stays.expect(protocol.TypeHeartbeatAck)

	write("orch 192.0.2.0/24\nfree nonsense\n")
	stays.expectClose(protocol.CloseSessionTerminated)
	n.eventuallyMetric(`gateway_file_faulty{setting="ORCHESTRATOR_CIDRS_FILE"}`, "1")
}

// A token that names the orchestrator by its user's id is no way around.
func TestAnOrchestratorIsLimitedWhicheverIDItsTokenHas(t *testing.T) {
	t.Parallel()
	for _, ids := range [][2]string{{"vp-1", "user-1"}, {"user-1", "vp-1"}} {
		t.Run("limited as "+ids[0], func(t *testing.T) {
			t.Parallel()
			limit, write := originsFile(t, ids[0]+" 127.0.0.0/8\n")
			n := newCluster(t).edge(onDatabase(neolith(t).URL()), limit)
			live := n.login(ids[1], "daemon")
			write(ids[0] + " 192.0.2.0/24\n")
			live.expectClose(protocol.CloseSessionTerminated)
			n.refusesFromHere(ids[0])
			n.refusesFromHere(ids[1])
		})
	}
}
