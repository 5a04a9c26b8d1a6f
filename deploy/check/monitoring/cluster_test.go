package monitoring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/deploy/check"
	"github.com/neolith/daemon-gateway/deploy/check/loopback"
)

// node is one that is scraped.
type node struct{ namespace, instance, address string }

// Namespaces of the nodes. The first holds a whole cluster with traffic; the
// second an edge that ends TLS, a router, and a bridge that takes events over
// HTTP, all with a database (that is away), for the metrics that only those
// have. They gossip among themselves alone, and their Redis is away, too.
const (
	healthy = "healthy"
	special = "special"
)

const secret = "a secret of thirty-two bytes or more, for tests alone"

// startCluster runs the gateway's programs and returns their nodes.
func startCluster(t *testing.T) []node {
	t.Helper()
	programs := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", programs, "./cmd/devcluster", "./cmd/edge", "./cmd/router", "./cmd/publisher-bridge")
	build.Dir, build.Env = check.Root(), append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)

	told := start(t, programs+"/devcluster", []string{
		"--demo", "--port=0", "--admin-port=0", "--nats-port=0", "--redis-port=0", "--data=" + t.TempDir(), "--daemon-jwt-secret=" + secret,
	}, nil)
	nodes, nats := readNodes(t, told)

	gossip, certificate := freeAddress(t), writeCertificate(t)
	common := []string{
		"NATS_URL=" + nats, "CLUSTER_NAME=" + special, "LOG_MAX_BYTES=1GiB", "LOG_LEVEL=error", "DATABASE_URL=postgres://nobody@127.0.0.1:1/neolith",
	}
	edge, router, bridge, intake := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	start(t, programs+"/edge", nil, append([]string{
		"NODE_NAME=tls-edge", "ADMIN_ADDR=" + edge, "GOSSIP_ADDR=" + gossip, "LISTEN_ADDR=127.0.0.1:0", "DRAIN_PERIOD=0s", "DAEMON_JWT_SECRET=" + secret,
		"TLS_CERT_FILE=" + certificate + "/tls.crt", "TLS_KEY_FILE=" + certificate + "/tls.key",
	}, common...))
	start(t, programs+"/router", nil, append([]string{
		"NODE_NAME=database-router", "ADMIN_ADDR=" + router, "GOSSIP_ADDR=127.0.0.1:0", "GOSSIP_JOIN=" + gossip,
	}, common...))
	start(t, programs+"/publisher-bridge", nil, append([]string{
		"NODE_NAME=http-bridge", "ADMIN_ADDR=" + bridge, "REDIS_URL=redis://127.0.0.1:1", "HTTP_ADDR=" + intake, "API_KEYS_FILE=" + writeAPIKey(t),
	}, common...))
	keepPublishing(t, "http://"+intake+"/v1/events")
	return append(nodes, node{special, "tls-edge", edge}, node{special, "database-router", router}, node{special, "http-bridge", bridge})
}

const apiKey = "a random key, for tests alone"

func writeAPIKey(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "api-keys")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "test %x\n", sha256.Sum256([]byte(apiKey))), 0o600))
	return path
}

// keepPublishing publishes an event over HTTP again and again until the test
// ends, so that there are rates.
func keepPublishing(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for tick := time.NewTicker(time.Second); ctx.Err() == nil; {
			publish(ctx, url)
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
			}
		}
	}()
}

// publish publishes one event. The bridge may not listen yet, or not any more;
// the metrics tell whether it got any.
func publish(ctx context.Context, url string) {
	event := strings.NewReader(`{"id":"event_1","type":"message.received","orchestratorId":"vp_1","payload":{}}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, event)
	if err != nil {
		return
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	request.Header.Set("Content-Type", "application/json")
	if response, err := http.DefaultClient.Do(request); err == nil {
		_ = response.Body.Close()
	}
}

// start runs a program until the test ends and returns the file that holds what
// it tells.
func start(t *testing.T, path string, args, environment []string) (told string) {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Env, cmd.Stdout = append(environment, "PATH=/"), output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		require.NoError(t, output.Close())
	})
	return output.Name()
}

var (
	nodeLine = regexp.MustCompile(`(?m)^  ((?:edge|router|bridge)-\d+) .*admin http://([0-9.:]+)/readyz`)
	natsLine = regexp.MustCompile(`(?m)^  nats +(nats://\S+)`)
)

// readNodes reads what the development cluster tells of its nodes, once its
// demo has begun.
func readNodes(t *testing.T, told string) (nodes []node, nats string) {
	t.Helper()
	var text string
	require.Eventually(t, func() bool {
		bytes, err := os.ReadFile(told)
		text = string(bytes)
		return err == nil && strings.Contains(text, "The demo")
	}, patience, 100*time.Millisecond, "the cluster is ready")
	for _, m := range nodeLine.FindAllStringSubmatch(text, -1) {
		nodes = append(nodes, node{healthy, m[1], m[2]})
	}
	require.Len(t, nodes, 6, "two of each tier: %s", text)
	m := natsLine.FindStringSubmatch(text)
	require.NotNil(t, m, text)
	return nodes, m[1]
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := loopback.Free()
	require.NoError(t, err)
	return address
}

// writeCertificate returns a folder with a certificate for 90 days.
func writeCertificate(t *testing.T) (folder string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().AddDate(0, 0, 90)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	folder = t.TempDir()
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: certificate}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600))
	}
	return folder
}
