package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// seat is a daemon of an orchestrator of its own behind the load balancer.
func (f *front) seat(w *world, name, path string) *traffic.Seat {
	s := w.Crowd.Add(protocol.OrchestratorID(name), traffic.Habit{})
	s.Profile.URLs, s.Profile.TLS, s.Profile.ConnectTimeout = []string{f.url("ws", path)}, f.tls, patience
	return s
}

// subscribe has a daemon take a seat and waits until it is subscribed. Its load
// balancer is there no longer than the test.
func (w *world) subscribe(s *traffic.Seat) {
	w.t.Helper()
	require.NoError(w.t, w.Crowd.Enter(w.ctx, s))
	w.t.Cleanup(s.Leave)
}

// tell publishes an event for a daemon.
func (w *world) tell(s *traffic.Seat, id string) {
	w.t.Helper()
	require.NoError(w.t, w.Feed.Publish(w.ctx, traffic.OnRedis, event.Event{
		ID: id, Type: "message.received", OrchestratorID: s.Profile.Orchestrator, Payload: json.RawMessage(`{"n":1}`), RequiresAck: true,
	}))
}

// awaitTold waits until a daemon has got and acknowledged n events.
func (w *world) awaitTold(s *traffic.Seat, n int) {
	w.t.Helper()
	w.eventually(func() bool {
		_, acked := w.Ledger.Progress(s.Profile.Seat)
		return acked == n
	}, "%s has not got %d events", s.Profile.Seat, n)
}

// ask asks by HTTP, as a daemon does, and returns the status and the answer.
func (f *front) ask(w *world, client *http.Client, method, path, body string, header http.Header) (status int, protocol, answer string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, method, f.url("http", path), strings.NewReader(body))
	require.NoError(w.t, err)
	if header != nil {
		req.Header = header
	}
	resp, err := client.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, resp.Proto, ""
	}
	text, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, resp.Proto, string(text)
}

func bearer(t *testing.T, p traffic.Profile) http.Header {
	t.Helper()
	token, err := auth.Mint(cluster.Secret, auth.Grant{Orchestrator: p.Orchestrator, Daemon: p.Daemon, ExpiresAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	return http.Header{"Authorization": {"Bearer " + token}}
}

func TestALoadBalancerGivesEdgesWhatDaemonsAskForAndNothingElse(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	rest, certificate := neolith(t), testserver.NewCertificate(t, 1)
	for _, file := range []string{haproxyHTTP, nginxHTTP} {
		t.Run(file, func(t *testing.T) {
			w := w.in(t)
			f := w.stand(file, certificate, rest)
			for i, path := range []string{"/daemon/ws", "/api/daemon/ws"} {
				d := f.seat(w, fmt.Sprintf("%s-%d", file, i), path)
				w.subscribe(d)
				w.tell(d, "event-"+string(d.Profile.Seat))
				w.awaitTold(d, 1)
				f.requireEvents(w, d.Profile)
			}
			f.requireRestElsewhere(w)
		})
	}
	require.Empty(t, w.Ledger.Check(everything).Violations)
}

// requireEvents asks for events by HTTP/1.1 and HTTP/2: only the edges would
// be too old for that.
func (f *front) requireEvents(w *world, d traffic.Profile) {
	w.t.Helper()
	const path = "/api/daemon/events"
	for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		client := f.httpClient(w.t, nil, http2)
		status, spoken, answer := f.ask(w, client, http.MethodGet, path+"?limit=5", "", bearer(w.t, d))
		require.Equal(w.t, http.StatusOK, status, answer)
		require.Equal(w.t, proto, spoken)
		require.Contains(w.t, answer, "event-"+string(d.Seat))
		status, _, answer = f.ask(w, client, http.MethodDelete, path, fmt.Sprintf(`{"eventIds":["event-%s"]}`, d.Seat), bearer(w.t, d))
		require.Equal(w.t, http.StatusOK, status, answer)
		require.Contains(w.t, answer, `"success":true`)
		status, _, answer = f.ask(w, client, http.MethodGet, path, "", nil)
		require.Equal(w.t, http.StatusUnauthorized, status, answer)
		status, _, answer = f.ask(w, client, http.MethodGet, "/daemon/ws", "", nil)
		require.Equal(w.t, http.StatusUpgradeRequired, status, answer)
	}
}

// requireRestElsewhere asks for what is not the gateway's.
func (f *front) requireRestElsewhere(w *world) {
	w.t.Helper()
	client := f.httpClient(w.t, nil, false)
	for _, path := range []string{
		"/", "/daemon", "/daemon/", "/daemon/ws/", "/daemon/wss", "/x/daemon/ws", "/api/daemon/auth", "/api/daemon/events/1", "/readyz", "/metrics",
	} {
		for _, header := range []http.Header{nil, handshake()} {
			status, _, answer := f.ask(w, client, http.MethodGet, path, "", header)
			require.Equal(w.t, http.StatusTeapot, status, path)
			require.Equal(w.t, "neolith "+path, answer)
		}
	}
}

// short is what makes a configuration end what is silent after so long.
func short(file, after string) []swap {
	var swaps []swap
	for _, setting := range map[string][]string{
		haproxyHTTP: {"timeout tunnel"}, haproxyTCP: {"timeout client", "timeout server"},
		nginxHTTP: {"proxy_read_timeout", "proxy_send_timeout"}, nginxTCP: {"proxy_timeout"},
	}[file] {
		swaps = append(swaps, swap{setting + " 3m", setting + " " + after})
	}
	return swaps
}

func TestAConnectionWithNothingButHeartbeatsOutlivesTheIdleTimeoutOfALoadBalancer(t *testing.T) {
	t.Parallel()
	certificate, settings := secured(t, map[string]string{"WS_HEARTBEAT_INTERVAL": "400", "TRUSTED_PROXIES": "127.0.0.1/32"})
	plain := startWorld(t, with(map[string]string{"WS_HEARTBEAT_INTERVAL": "400"}))
	encrypted := startWorld(t, with(settings))
	rest := neolith(t)
	var waits []func()
	for file, w := range map[string]*world{haproxyHTTP: plain, nginxHTTP: plain, haproxyTCP: encrypted, nginxTCP: encrypted} {
		f := w.stand(file, certificate, rest, short(file, "3s")...)
		d := f.seat(w, file, "/daemon/ws")
		life := watch(d)
		w.subscribe(d)
		waits = append(waits, func() {
			// Twice the timeout, on one connection; a machine that stands still may cost another one.
			const heartbeats = 15
			w.eventually(func() bool { return life.heartbeats.Load() >= heartbeats }, "%s: no connection has had so many heartbeats", file)
			w.tell(d, "late")
			w.awaitTold(d, 1)
		})
	}
	for _, wait := range waits {
		wait()
	}
}

// The mistake to be made with load balancers: nothing is lost by it, but
// daemons are cut off again and again.
func TestAnIdleTimeoutShorterThanTheHeartbeatsCutsConnections(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	rest, certificate := neolith(t), testserver.NewCertificate(t, 1)
	for _, file := range []string{haproxyHTTP, nginxHTTP} {
		t.Run(file, func(t *testing.T) {
			w := w.in(t)
			f := w.stand(file, certificate, rest, short(file, "500ms")...)
			d := f.seat(w, file, "/daemon/ws")
			life := watch(d)
			w.subscribe(d)
			w.eventually(func() bool { return life.cut.Load() >= 2 }, "it stays connected")
			w.tell(d, "late")
			w.awaitTold(d, 1)
		})
	}
}
