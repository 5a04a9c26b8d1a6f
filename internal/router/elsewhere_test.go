package router

import (
	"net/http"
	"strings"
	"testing"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Regression: a router whose name of NATS led to another cluster within 2 s of its
// start stayed ready there.
func TestARouterIsNotReadyWhereItsStreamsAreNot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	name := testserver.NATSProxy(t, c.server)
	r := c.router("router", func(cfg *Config) {
		cfg.NATS.NATSURL = []settings.URL{settings.URL(name.URL())}
		cfg.Upkeep.ManageStreams = false
	})
	c.eventually(func() bool { status, _ := get(t, r, "/readyz"); return status == http.StatusOK }, "ready")
	name.Lead(testserver.NATS(t))
	name.Cut()
	name.Heal()
	c.eventually(func() bool {
		status, body := get(t, r, "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "the gateway's streams are not there any more")
	}, "says so")
}
