package admin_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/logbook"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is one as far as a test is about it.
func node(checks ...admin.Check) (n admin.Node, written *testserver.Journal) {
	written = &testserver.Journal{}
	book, logger := logbook.Open(slog.New(slog.NewJSONHandler(written, nil)))
	reg := prometheus.NewPedanticRegistry()
	return admin.Node{
		Tier: "edge", Name: "edge-1", Registry: reg, Checks: checks, Settings: "# Operation\nADMIN_ADDR=:9090\n",
		Log: book, Audit: audit.New(logger, reg),
	}, written
}

// serve runs a server until the test ends and returns its base URL.
func serve(t *testing.T, n admin.Node) string {
	t.Helper()
	server, err := admin.New("127.0.0.1:0", n, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		n.Log.Close()
	})
	return "http://" + server.Addr().String()
}

func start(t *testing.T, checks ...admin.Check) string {
	t.Helper()
	n, _ := node(checks...)
	return serve(t, n)
}

func get(t *testing.T, url string) (status int, contentType, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header.Get("Content-Type"), string(content)
}

func TestLivez(t *testing.T) {
	t.Parallel()
	base := start(t, admin.Check{Name: "nats", Ready: func() (bool, string) { return false, "away" }})
	status, _, body := get(t, base+"/livez")
	require.Equal(t, http.StatusOK, status, "a dependency that is away is no reason to restart the process")
	require.Equal(t, "ok\n", body)
}

func TestReadyz(t *testing.T) {
	t.Parallel()
	var connected atomic.Bool
	base := start(t,
		admin.Check{Name: "nats", Ready: func() (bool, string) {
			if connected.Load() {
				return true, "connected to nats-0"
			}
			return false, "connecting since 3 s"
		}},
		admin.Check{Name: "directory", Ready: func() (bool, string) { return true, "" }},
	)
	status, contentType, body := get(t, base+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "application/json", contentType)
	require.JSONEq(t, `{"ready":false,"checks":{"nats":{"ready":false,"detail":"connecting since 3 s"},"directory":{"ready":true}}}`, body)

	connected.Store(true)
	status, _, body = get(t, base+"/readyz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"ready":true,"checks":{"nats":{"ready":true,"detail":"connected to nats-0"},"directory":{"ready":true}}}`, body)
}

func TestAdvisoryChecksAreToldAndDecideNothing(t *testing.T) {
	t.Parallel()
	base := start(t,
		admin.Check{Name: "postgres", Ready: func() (bool, string) { return false, "away" }, Advisory: true},
		admin.Check{Name: "nats", Ready: func() (bool, string) { return true, "" }},
	)
	status, _, body := get(t, base+"/readyz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"ready":true,"checks":{"postgres":{"ready":false,"detail":"away","advisory":true},"nats":{"ready":true}}}`, body)
}

func TestReadyzWithoutChecks(t *testing.T) {
	t.Parallel()
	status, _, body := get(t, start(t)+"/readyz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"ready":true,"checks":{}}`, body)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	status, _, body := get(t, start(t)+"/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "gateway_build_info{goversion=\""+runtime.Version()+"\",revision=")
	require.Contains(t, body, "go_goroutines ")
	require.Contains(t, body, "process_open_fds ")
}

// Exemplars are in OpenMetrics alone, which a scraper has to ask for.
func TestMetricsHaveExemplarsForWhoeverAsksForThem(t *testing.T) {
	t.Parallel()
	n, _ := node()
	metric.Observe(metric.Histogram(n.Registry, "test_seconds", "Test.", []float64{1, 2}), 1.5, "4bf92f3577b34da6a3ce929d0e0e4736")
	base := serve(t, n)
	_, _, plain := get(t, base+"/metrics")
	require.Contains(t, plain, "test_seconds_bucket{le=\"2\"} 1\n")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/metrics", nil)
	require.NoError(t, err)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `test_seconds_bucket{le="2.0"} 1 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 1.5`)
}

func TestNewFails(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	fresh := func() admin.Node { n, _ := node(); return n }
	server, err := admin.New("127.0.0.1:0", fresh(), logger)
	require.NoError(t, err)
	_, err = admin.New(server.Addr().String(), fresh(), logger)
	require.ErrorContains(t, err, "listen on admin address "+server.Addr().String())
	require.NoError(t, server.Close())
	require.NoError(t, server.Close())

	again, err := admin.New(server.Addr().String(), fresh(), logger)
	require.NoError(t, err, "Close frees the address")
	require.NoError(t, again.Close())
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[admin.Config]()
	require.NoError(t, settings.Validate(&cfg))
	for _, addr := range []string{"", "9090", "127.0.0.1:http-ish"} {
		cfg.AdminAddr = addr
		require.ErrorContains(t, settings.Validate(&cfg), "ADMIN_ADDR", addr)
	}
}

// Each of these held a connection for as long as the client liked.
func TestABodyThatNobodyAskedForIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	base := start(t)
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/debug/pprof/goroutine", "/nothing"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		require.NoError(t, err)
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		require.NoError(t, err)
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err, path)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err, path)
		_, err = in.ReadByte()
		require.ErrorIs(t, err, io.EOF, "%s: the connection is closed", path)
		require.NoError(t, conn.Close())
	}
}
