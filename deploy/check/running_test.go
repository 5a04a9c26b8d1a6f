package check

import (
	"context"
	"io"
	"maps"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/neolith/daemon-gateway/deploy/check/loopback"
)

// patience ends what hangs; how fast a machine is decides nothing.
const patience = 5 * time.Minute

// freeAddress is an address to listen on.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := loopback.Free()
	require.NoError(t, err)
	return address
}

// start runs a program alone and returns the addresses of its ports, by the
// name that the container gives them. NATS and Redis are away, which its probes
// must bear.
func (p program) start(t *testing.T) (addresses map[string]string) {
	t.Helper()
	addresses = map[string]string{"admin": freeAddress(t), "daemons": freeAddress(t), "intake": freeAddress(t)}
	environment := maps.Clone(p.environment)
	for _, name := range []string{"NATS_URL_FILE", "REDIS_URL_FILE", "GOSSIP_JOIN", "GOSSIP_ADVERTISE_ADDR", "PORT"} {
		delete(environment, name)
	}
	maps.Copy(environment, map[string]string{
		"ADMIN_ADDR": addresses["admin"], "LISTEN_ADDR": addresses["daemons"], "HTTP_ADDR": addresses["intake"],
		"NATS_URL": "nats://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1", "GOSSIP_ADDR": "127.0.0.1:0", "DRAIN_PERIOD": "0s",
	})
	cmd := program{p.path, p.args, environment}.command(context.Background())
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
	})
	return addresses
}

// get returns the status of a request, once there is an answer.
func get(t *testing.T, url string) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status := 0
	require.Eventually(t, func() bool {
		response, err := client.Get(url)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		status = response.StatusCode
		return true
	}, patience, 20*time.Millisecond, url)
	return status
}

// The evaluation, with all that routes may lead to.
func routedEvaluation(t *testing.T) *installation {
	t.Helper()
	values, err := Values("values-evaluation.yaml")
	require.NoError(t, err)
	values["ingress"] = map[string]any{"enabled": true, "host": "gateway.example.com"}
	values["intake"] = map[string]any{
		"enabled": true, "existingSecret": "gateway-intake", "ingress": map[string]any{"enabled": true, "host": "events.example.com"},
	}
	return install(t, values)
}

func TestTheProgramsServeWhatIsAskedOfThem(t *testing.T) {
	t.Parallel()
	c := routedEvaluation(t)
	routes := map[string]route{}
	for _, r := range c.routes() {
		routes[r.tier] = r
	}
	require.Len(t, routes["edge"].paths, 3)
	require.Len(t, routes["bridge"].paths, 1)
	for _, w := range c.gateways() {
		if contains([]string{"test", "admin"}, w.component()) {
			continue
		}
		p := c.programOf(w)
		t.Run(w.component(), func(t *testing.T) {
			t.Parallel()
			addresses := p.start(t)
			path := func(probe *corev1.Probe) string {
				require.Equal(t, "admin", probe.HTTPGet.Port.StrVal)
				return "http://" + addresses["admin"] + probe.HTTPGet.Path
			}
			require.Equal(t, http.StatusOK, get(t, path(w.container().StartupProbe)))
			require.Equal(t, http.StatusOK, get(t, path(w.container().LivenessProbe)), "it depends on nothing else")
			require.Equal(t, http.StatusServiceUnavailable, get(t, path(w.container().ReadinessProbe)), "NATS is away")
			require.Equal(t, http.StatusOK, get(t, "http://"+addresses["admin"]+"/metrics"))
			for _, asked := range routes[w.component()].paths {
				port := "http://" + addresses[routes[w.component()].port]
				require.NotEqual(t, http.StatusNotFound, get(t, port+asked), asked)
				require.Equal(t, http.StatusNotFound, get(t, port+asked+"/elsewhere"), "a path that nobody serves")
			}
		})
	}
}
