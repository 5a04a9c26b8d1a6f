package e2e_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// The recommended configurations, in deploy/loadbalancer.
const (
	haproxyHTTP = "haproxy.cfg"
	haproxyTCP  = "haproxy-tcp.cfg"
	nginxHTTP   = "nginx.conf"
	nginxTCP    = "nginx-tcp.conf"
)

// front is a HAProxy or nginx in front of the edges that runs a recommended
// configuration.
type front struct {
	*testserver.LoadBalancer
	tls *tls.Config // trusts whoever ends TLS
}

// swap says what stands in a recommended configuration, and what a test puts in
// its place.
type swap struct{ is, becomes string }

// secured gives edges a certificate, as the configurations that leave TLS to
// them need it.
func secured(t *testing.T, settings map[string]string) (testserver.Certificate, map[string]string) {
	t.Helper()
	c, dir := testserver.NewCertificate(t, 1), t.TempDir()
	settings["TLS_CERT_FILE"], settings["TLS_KEY_FILE"] = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(settings["TLS_CERT_FILE"], c.Certificate, 0o600))
	require.NoError(t, os.WriteFile(settings["TLS_KEY_FILE"], c.Key, 0o600))
	return c, settings
}

// stand puts a recommended configuration in front of the edges, with the
// addresses and files of the test, and what else is to be changed. neolith is
// where the rest of the host goes (host:port).
func (w *world) stand(file string, c testserver.Certificate, neolith string, changes ...swap) *front {
	w.t.Helper()
	text := deployed(w.t, "loadbalancer", file)
	start, own := testserver.HAProxy, w.haproxySwaps
	if strings.HasPrefix(file, "nginx") {
		start, own = testserver.Nginx, w.nginxSwaps
	}
	b := start(w.t, func(b *testserver.LoadBalancer) string {
		swaps := own(b)
		if file == haproxyHTTP || file == nginxHTTP {
			require.NoError(w.t, os.WriteFile(filepath.Join(b.Dir, "gateway.pem"), append(c.Certificate, c.Key...), 0o600))
			require.NoError(w.t, os.WriteFile(filepath.Join(b.Dir, "gateway.crt"), c.Certificate, 0o600))
			require.NoError(w.t, os.WriteFile(filepath.Join(b.Dir, "gateway.key"), c.Key, 0o600))
			product := strings.TrimSuffix(strings.TrimSuffix(file, ".cfg"), ".conf")
			if product == "haproxy" {
				swaps = append(swaps, swap{"timeout http-request 10s", "timeout http-request 120s"})
			}
			swaps = append(swaps, swap{"/etc/" + product + "/certs/", b.Dir + "/"}, swap{"10.0.0.21:3000", neolith})
			if product == "nginx" {
				swaps = append(swaps, swap{"http {\n", "http {\n" + temporaryFiles(b.Dir)})
			}
		}
		configuration := text
		for _, s := range append(swaps, changes...) {
			require.Contains(w.t, configuration, s.is, file)
			configuration = strings.ReplaceAll(configuration, s.is, s.becomes)
		}
		return configuration
	})
	return &front{LoadBalancer: b, tls: &tls.Config{RootCAs: c.Pool}}
}

// edgeAddresses are those in the recommended configurations.
var edgeAddresses = []string{"10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"}

func (w *world) haproxySwaps(b *testserver.LoadBalancer) []swap {
	// It may change its user only as root, and then could not write to the directory.
	swaps := []swap{
		{"  user haproxy\n", ""}, {"  group haproxy\n", ""},
		{"bind :443", "bind " + b.Address}, {"/run/haproxy/", b.Dir + "/"},
		// A slow machine is not to be taken for an edge that is gone.
		{"timeout connect 3s\n", "timeout connect 120s\n  timeout check 120s\n"},
	}
	for i, address := range edgeAddresses {
		_, adminPort, err := net.SplitHostPort(w.Edges[i].AdminAddr)
		require.NoError(w.t, err)
		swaps = append(swaps, swap{address + " port 9090", host(w.Edges[i]) + " port " + adminPort})
	}
	return swaps
}

func (w *world) nginxSwaps(b *testserver.LoadBalancer) []swap {
	swaps := []swap{
		{"listen 443", "listen " + b.Address}, {"/var/log/nginx/", b.Dir + "/"},
		{"proxy_connect_timeout 3s", "proxy_connect_timeout 120s"},
	}
	for i, address := range edgeAddresses {
		swaps = append(swaps, swap{address, host(w.Edges[i])})
	}
	return swaps
}

// temporaryFiles has nginx write where others than root may, too.
func temporaryFiles(dir string) (settings string) {
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		settings += fmt.Sprintf("  %s_temp_path %s/%s;\n", kind, dir, kind)
	}
	return settings
}

// url is that of a path behind the load balancer, ws for WebSockets.
func (f *front) url(scheme, path string) string { return scheme + "s://" + f.Address + path }

// httpClient asks through the load balancer, from an address of this machine or
// any. Without HTTP/2 it can ask for WebSockets.
func (f *front) httpClient(t *testing.T, from net.Addr, http2 bool) *http.Client {
	t.Helper()
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{
		TLSClientConfig: f.tls.Clone(), Protocols: protocols, DisableKeepAlives: !http2,
		DialContext: (&net.Dialer{LocalAddr: from}).DialContext,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// command tells a running haproxy something, as an operator does.
func (f *front) command(t *testing.T, line string) {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(f.Dir, "admin.sock"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, line+"\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Empty(t, strings.TrimSpace(string(answer)), line)
}

// neolith stands for Neolith: it answers 418 and its own name.
func neolith(t *testing.T) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "neolith "+r.URL.Path)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// connections is how many an edge holds.
func (w *world) connections(e *cluster.Node) int {
	w.t.Helper()
	return int(w.metric(e, "gateway_connections"))
}

// in is the world for a subtest.
func (w *world) in(t *testing.T) *world {
	within := *w
	within.t = t
	return &within
}
