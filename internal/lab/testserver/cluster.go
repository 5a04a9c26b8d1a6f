package testserver

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/backup/snapshot"
)

const natsModule = "github.com/nats-io/nats-server/v2"

// answerTimeout is how long a server that is waited for may take to answer one
// question before it is asked again.
const answerTimeout = 5 * time.Second

// Cluster is a NATS cluster of separate server processes with JetStream, whose
// nodes can be killed and started again one by one.
type Cluster struct {
	t     testing.TB
	Nodes []*ClusterNode
}

// ClusterNode is one server of a Cluster. It keeps its ports and its data.
type ClusterNode struct {
	t      testing.TB
	binary string
	dir    string
	name   string
	client int
	routes int
	admin  int

	mu      sync.Mutex
	process *process // nil while it is down
}

// NATSCluster starts n servers and waits until streams with n replicas can be
// created. The server is built from the module in go.mod on first use.
func NATSCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	binary := natsBinary(t)
	const attempts = 3
	var err error
	for range attempts {
		c := newCluster(t, binary, n)
		if err = c.start(); err == nil {
			return c
		}
		c.kill()
	}
	t.Fatalf("start a NATS cluster: %v", err)
	return nil
}

var natsBuild struct {
	sync.Once
	path string
	err  error
}

// natsBinary builds the server once for each process. The go command caches the
// build, and the next process links it again only if it has changed.
func natsBinary(t testing.TB) string {
	t.Helper()
	natsBuild.Do(func() {
		var version []byte
		version, natsBuild.err = exec.Command("go", "list", "-m", "-f", "{{.Version}}", natsModule).Output()
		if natsBuild.err != nil {
			return
		}
		natsBuild.path = filepath.Join(os.TempDir(), "daemon-gateway-test", "nats-server-"+strings.TrimSpace(string(version)))
		if _, err := os.Stat(natsBuild.path); err == nil {
			return
		}
		// Other test processes may do the same now: rename is atomic.
		unfinished := fmt.Sprintf("%s.%d", natsBuild.path, os.Getpid())
		build := exec.Command("go", "build", "-o", unfinished, natsModule)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as everything else is compiled
		if out, err := build.CombinedOutput(); err != nil {
			natsBuild.err = fmt.Errorf("%w: %s", err, out)
			return
		}
		natsBuild.err = os.Rename(unfinished, natsBuild.path)
	})
	if natsBuild.err != nil {
		t.Fatalf("build %s: %v", natsModule, natsBuild.err)
	}
	return natsBuild.path
}

func newCluster(t testing.TB, binary string, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for i := range n {
		c.Nodes = append(c.Nodes, &ClusterNode{
			t: t, binary: binary, dir: t.TempDir(), name: fmt.Sprintf("n%d", i),
			client: freePort(t), routes: freePort(t), admin: freePort(t),
		})
	}
	var routes []string
	for _, node := range c.Nodes {
		routes = append(routes, "nats-route://"+address(node.routes))
	}
	for _, node := range c.Nodes {
		node.configure(strings.Join(routes, ", "))
	}
	t.Cleanup(c.kill)
	return c
}

func (c *Cluster) start() error {
	var last error
	for _, node := range c.Nodes {
		if err := node.launch(); err != nil {
			return err
		}
	}
	for _, node := range c.Nodes {
		if err := node.await(); err != nil {
			return err
		}
	}
	js := JetStream(c.t, c.URL())
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for ctx.Err() == nil {
		if last = tryReplicas(ctx, js, len(c.Nodes)); last == nil {
			return nil
		}
	}
	return fmt.Errorf("no stream with %d replicas: %w", len(c.Nodes), last)
}

func tryReplicas(ctx context.Context, js jetstream.JetStream, n int) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "TRY", Subjects: []string{"try"}, Replicas: n})
	if err != nil {
		return err
	}
	return js.DeleteStream(ctx, "TRY")
}

func (c *Cluster) kill() {
	for _, node := range c.Nodes {
		node.Kill()
	}
}

// URL lists where clients connect.
func (c *Cluster) URL() string {
	var urls []string
	for _, node := range c.Nodes {
		urls = append(urls, node.ClientURL())
	}
	return strings.Join(urls, ",")
}

// JetStream connects to the cluster, for as long as the test runs.
func (c *Cluster) JetStream() jetstream.JetStream {
	c.t.Helper()
	return JetStream(c.t, c.URL())
}

// StreamLeader returns the node that leads a stream now.
func (c *Cluster) StreamLeader(js jetstream.JetStream, stream string) *ClusterNode {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for ctx.Err() == nil {
		try, stop := context.WithTimeout(ctx, answerTimeout)
		s, err := js.Stream(try, stream)
		stop()
		if err != nil || s.CachedInfo().Cluster == nil {
			continue
		}
		for _, node := range c.Nodes {
			if node.name == s.CachedInfo().Cluster.Leader {
				return node
			}
		}
	}
	c.t.Fatalf("stream %s has no leader after %v", stream, Patience)
	return nil
}

// StepDown makes the leader of a stream give way to another node.
func (c *Cluster) StepDown(js jetstream.JetStream, stream string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var err error
	for ctx.Err() == nil { // between two leaders nobody can
		try, stop := context.WithTimeout(ctx, answerTimeout)
		err = snapshot.Request(try, js.Conn(), "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, &struct{}{})
		stop()
		if err == nil {
			return
		}
	}
	c.t.Fatalf("the leader of stream %s does not step down: %v", stream, err)
}

// Name is the server's name in the cluster.
func (n *ClusterNode) Name() string { return n.name }

// ClientURL is where clients connect to this node.
func (n *ClusterNode) ClientURL() string { return "nats://" + address(n.client) }

// Kill ends the server without warning (SIGKILL).
func (n *ClusterNode) Kill() { n.end(os.Kill) }

// Stop ends the server in order (SIGTERM).
func (n *ClusterNode) Stop() { n.end(syscall.SIGTERM) }

// Leave ends the server by its lame duck mode: it gives its streams to others
// first, and closes its clients' connections last, one after the other.
func (n *ClusterNode) Leave() { n.end(syscall.SIGUSR2) }

// Pause has the server stand still (SIGSTOP): connections stay and nobody answers.
func (n *ClusterNode) Pause() {
	n.tell(syscall.SIGSTOP)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		n.process.awaitStopped()
	}
}

// Resume ends a Pause.
func (n *ClusterNode) Resume() { n.tell(syscall.SIGCONT) }

func (n *ClusterNode) tell(s os.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		_ = n.process.cmd.Process.Signal(s)
	}
}

// Start starts the server again and waits until it is healthy, which needs a
// majority of the nodes.
func (n *ClusterNode) Start() {
	n.t.Helper()
	err := n.launch()
	if err == nil {
		err = n.await()
	}
	if err != nil {
		n.t.Fatalf("start NATS node %s: %v", n.name, err)
	}
}

func (n *ClusterNode) end(s os.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		n.process.signal(s)
		n.process = nil
	}
}

func (n *ClusterNode) configFile() string { return filepath.Join(n.dir, "nats.conf") }

func (n *ClusterNode) configure(routes string) {
	n.t.Helper()
	text := fmt.Sprintf(`
server_name: %s
listen: "%s"
http: "%s"
jetstream { store_dir: "%s", max_file_store: 1TB }
lame_duck_grace_period: 100ms
cluster { name: test, listen: "%s", routes: [ %s ] }
`, n.name, address(n.client), address(n.admin), filepath.Join(n.dir, "js"), address(n.routes), routes)
	if err := os.WriteFile(n.configFile(), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *ClusterNode) launch() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		return nil
	}
	p, err := startProcess(n.binary, "-c", n.configFile())
	n.process = p
	return err
}

func (n *ClusterNode) await() error {
	n.mu.Lock()
	p := n.process
	n.mu.Unlock()
	return p.await(Patience, n.healthy)
}

func (n *ClusterNode) healthy() error {
	client := http.Client{Timeout: answerTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address(n.admin) + "/healthz")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz answers %s", resp.Status)
	}
	return nil
}
