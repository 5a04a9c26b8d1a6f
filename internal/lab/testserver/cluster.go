package testserver

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/backup/snapshot"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// answerTimeout is how long a server that is waited for may take to answer one
// question before it is asked again.
const answerTimeout = 5 * time.Second

// Cluster is a NATS cluster of separate server processes with JetStream, whose
// nodes can be killed and started again one by one.
type Cluster struct {
	t     testing.TB
	Nodes []*ClusterNode
}

// ClusterNode is one server of a Cluster. It keeps its ports and its data. What
// does not succeed fails the test.
type ClusterNode struct {
	*process.NATS
	t testing.TB
}

// NATSCluster starts n servers and waits until streams with n replicas can be
// created.
func NATSCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	program, err := process.NATSProgram(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var layout []process.Server
	for i := range n {
		layout = append(layout, process.Server{
			Name: fmt.Sprintf("n%d", i), Dir: t.TempDir(), Program: program, Settings: []string{"lame_duck_grace_period: 100ms"},
		})
	}
	servers, err := process.NewNATS(layout...)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t}
	for _, s := range servers {
		c.Nodes = append(c.Nodes, &ClusterNode{s, t})
	}
	t.Cleanup(c.kill)
	if err := c.start(ctx); err != nil {
		t.Fatalf("start a NATS cluster: %v", err)
	}
	return c
}

func (c *Cluster) start(ctx context.Context) error {
	for _, node := range c.Nodes {
		if err := node.NATS.Start(); err != nil {
			return err
		}
	}
	for _, node := range c.Nodes {
		if err := node.AwaitReady(ctx); err != nil {
			return err
		}
	}
	js := JetStream(c.t, c.URL())
	var last error
	if !insist(ctx, func(ctx context.Context) bool {
		last = tryReplicas(ctx, js, len(c.Nodes))
		return last == nil
	}) {
		return fmt.Errorf("no stream with %d replicas: %w", len(c.Nodes), last)
	}
	return nil
}

// insist asks until the answer is yes, and reports whether it came before ctx ended.
// It leaves the servers time for other things.
func insist(ctx context.Context, ask func(context.Context) bool) bool {
	for ctx.Err() == nil {
		asked := time.Now()
		try, stop := context.WithTimeout(ctx, answerTimeout)
		yes := ask(try)
		stop()
		if yes {
			return true
		}
		time.Sleep(process.Pause(time.Since(asked)))
	}
	return false
}

func tryReplicas(ctx context.Context, js jetstream.JetStream, n int) error {
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
	var servers []*process.NATS
	for _, node := range c.Nodes {
		servers = append(servers, node.NATS)
	}
	return process.NATSURL(servers)
}

// JetStream connects to the cluster, for as long as the test runs.
func (c *Cluster) JetStream() jetstream.JetStream {
	c.t.Helper()
	return JetStream(c.t, c.URL())
}

// CreateStream creates a stream, and asks again where no answer comes: a request
// is lost with a leader of the cluster that is replaced meanwhile.
func (c *Cluster) CreateStream(js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.Stream {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var stream jetstream.Stream
	var err error
	if !insist(ctx, func(ctx context.Context) bool {
		stream, err = js.CreateStream(ctx, cfg)
		return err == nil
	}) {
		c.t.Fatalf("create stream %s: %v", cfg.Name, err)
	}
	return stream
}

// StreamLeader returns the node that leads a stream now.
func (c *Cluster) StreamLeader(js jetstream.JetStream, stream string) *ClusterNode {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var leader *ClusterNode
	if !insist(ctx, func(ctx context.Context) bool {
		s, err := js.Stream(ctx, stream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		for _, node := range c.Nodes {
			if node.Name() == s.CachedInfo().Cluster.Leader {
				leader = node
			}
		}
		return leader != nil
	}) {
		c.t.Fatalf("stream %s has no leader after %v", stream, Patience)
	}
	return leader
}

// StepDown makes the leader of a stream give way to another node.
func (c *Cluster) StepDown(js jetstream.JetStream, stream string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var err error
	if !insist(ctx, func(ctx context.Context) bool { // between two leaders nobody can
		err = snapshot.Request(ctx, js.Conn(), "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, &struct{}{})
		return err == nil
	}) {
		c.t.Fatalf("the leader of stream %s does not step down: %v", stream, err)
	}
}

// ClientURL is where clients connect to this node.
func (n *ClusterNode) ClientURL() string { return n.URL() }

// Stop stops the server gracefully (SIGTERM).
func (n *ClusterNode) Stop() { n.do("stop", n.NATS.Stop) }

// Leave ends the server by its lame duck mode, see process.NATS.
func (n *ClusterNode) Leave() { n.do("lame duck mode of", n.NATS.Leave) }

// Pause has the server stand still (SIGSTOP): connections stay and nobody answers.
func (n *ClusterNode) Pause() {
	n.do("pause", func(context.Context) error { return n.NATS.Pause() })
}

// Start starts the server again and waits until it is healthy, which needs a
// majority of the nodes.
func (n *ClusterNode) Start() {
	n.do("start", func(ctx context.Context) error {
		if err := n.NATS.Start(); err != nil {
			return err
		}
		return n.AwaitReady(ctx)
	})
}

func (n *ClusterNode) do(what string, f func(context.Context) error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := f(ctx); err != nil {
		n.t.Fatalf("%s NATS node %s: %v", what, n.Name(), err)
	}
}
