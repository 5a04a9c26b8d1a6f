package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Load balancers connect from 127.0.0.1, and daemons from other addresses that
// Linux has on loopback too.
const trusted = "127.0.0.1/32"

// addressSettings make an address run into its limit soon.
func addressSettings(database *testserver.PostgresServer) map[string]string {
	return map[string]string{"TRUSTED_PROXIES": trusted, "RATE_CONNECTS_PER_IP": "1", "DATABASE_URL": database.URL()}
}

func TestEdgesSeeTheAddressesOfDaemonsBehindALoadBalancer(t *testing.T) {
	t.Parallel()
	database := neolithDatabase(t)
	w := startWorld(t, with(addressSettings(database)))
	certificate, rest := testserver.NewCertificate(t, 1), neolith(t)
	for i, file := range []string{haproxyHTTP, nginxHTTP} {
		w.stand(file, certificate, rest).requireLimit(w, 10+10*i, file)
	}
	w.requireRecorded(database, 10, 20)
}

func TestEdgesSeeTheAddressesOfDaemonsByThePROXYProtocol(t *testing.T) {
	t.Parallel()
	database := neolithDatabase(t)
	certificate, settings := secured(t, addressSettings(database))
	w := startWorld(t, with(settings))
	v1 := swap{"send-proxy-v2", "send-proxy"}
	w.stand(haproxyTCP, certificate, "").requireLimit(w, 10, "HAProxy, version 2")
	w.stand(haproxyTCP, certificate, "", v1).requireLimit(w, 20, "HAProxy, version 1")
	w.stand(nginxTCP, certificate, "").requireLimit(w, 30, "nginx, version 1")
	w.requireRecorded(database, 10, 20, 30)
}

// neolithDatabase has one orchestrator for each address in use.
func neolithDatabase(t *testing.T) *testserver.PostgresServer {
	t.Helper()
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	for _, number := range []int{10, 20, 30} {
		database.AddOrchestrators(t, testserver.Orchestrator{ID: orchestrator(number), User: fmt.Sprintf("user%d", number), Organization: "org"})
	}
	return database
}

// requireLimit runs one address into its limit, and connects a daemon from the
// next one: with headers that would help if what a client says were believed.
func (f *front) requireLimit(w *world, number int, name string) {
	w.t.Helper()
	client := f.httpClient(w.t, address(number), false)
	w.eventually(func() bool { return f.knock(w, client) }, "%s: no limit of connects from one address", name)
	d := f.seat(w, orchestrator(number), protocol.Path)
	d.Profile.From, d.Profile.Header = address(number+1), http.Header{"X-Forwarded-For": {address(number).IP.String()}}
	w.subscribe(d)
}

// knock asks for many connections at once, since one after the other may be too
// slow for any limit, and reports whether one was refused for it.
func (f *front) knock(w *world, client *http.Client) bool {
	w.t.Helper()
	const atOnce = 50
	var limited atomic.Bool
	var asking errgroup.Group
	for n := range atOnce {
		asking.Go(func() error {
			forged, header := fmt.Sprintf("203.0.113.%d", n), handshake()
			header.Set("X-Forwarded-For", forged)
			header.Set("X-Real-Ip", forged)
			header.Set("Forwarded", "for="+forged)
			req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, f.url("http", protocol.Path), nil)
			if err != nil {
				return err
			}
			req.Header = header
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			if resp.StatusCode == http.StatusTooManyRequests {
				limited.Store(true)
			}
			return resp.Body.Close()
		})
	}
	require.NoError(w.t, asking.Wait())
	return limited.Load()
}

// requireRecorded requires that the history has the true addresses of the
// daemons that requireLimit has connected.
func (w *world) requireRecorded(database *testserver.PostgresServer, numbers ...int) {
	w.t.Helper()
	conn := database.Connect(w.t)
	for _, number := range numbers {
		var recorded string
		w.eventually(func() bool {
			return conn.QueryRow(w.ctx, `select host(remote_address) from daemon_gateway.session_overview where orchestrator_id = $1`,
				orchestrator(number)).Scan(&recorded) == nil
		}, "the session of %s is not in the history", orchestrator(number))
		require.Equal(w.t, address(number+1).IP.String(), recorded, orchestrator(number))
	}
}

// address is one that Linux has on loopback.
func address(number int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(number))} }

func orchestrator(number int) string { return fmt.Sprintf("vp%d", number) }
