// Package devcluster runs a whole cluster in one process: all three tiers as
// full instances that talk over real sockets and real gossip, with an embedded
// NATS server and an embedded Redis-compatible server where none is given. It
// is for trying, for demos and for benchmarks; in production each node is a
// process of its own.
package devcluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// stopTimeout and drainPeriod are short: nobody waits for a development
	// cluster to drain.
	stopTimeout = 10 * time.Second
	drainPeriod = 500 * time.Millisecond
)

// clusterName keeps it apart from other clusters.
const clusterName = "devcluster"

// Cluster is a running development cluster.
type Cluster struct {
	cfg        Config
	partitions int
	logger     *slog.Logger
	out        io.Writer

	nats     []settings.URL
	redis    settings.URL
	secret   settings.Secret
	ports    ports
	nodes    []node
	edges    []*edge.Edge
	gossip   []string // addresses of the members so far
	teardown lifecycle.Stack
}

// node is one instance of a tier.
type node struct {
	tier, name, admin string
	run               func(context.Context) error
	close             func() error
}

// ports hands out a row of ports, skipping none: a taken one is replaced.
type ports struct{ edge, admin int }

// New starts the embedded servers and binds every node. What is told to a
// person goes to out. Run must follow, or Close.
func New(cfg Config, out io.Writer, logger *slog.Logger) (*Cluster, error) {
	c := &Cluster{
		cfg: cfg, out: out, logger: logger, ports: ports{cfg.Port, cfg.AdminPort},
		partitions: settings.Default[eventlog.Config]().Partitions,
	}
	for _, step := range []func() error{c.makeDirectory, c.lockData, c.loadSecret, c.startNATS, c.startRedis, c.bindNodes} {
		if err := step(); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) makeDirectory() error {
	if err := os.MkdirAll(c.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return nil
}

func (c *Cluster) bindNodes() error {
	for i := range c.cfg.Edges {
		if err := c.bindEdge(i); err != nil {
			return err
		}
	}
	for i := range c.cfg.Routers {
		if err := c.bindRouter(i); err != nil {
			return err
		}
	}
	for i := range c.cfg.Bridges {
		if err := c.bindBridge(i); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) bindEdge(i int) error {
	cfg := settings.Default[edge.Config]()
	cfg.Common, cfg.NATS, cfg.Log, cfg.Ring = c.common("edge", i), c.natsConfig(), c.logConfig(), c.ringConfig()
	cfg.Database.Postgres = c.cfg.Postgres
	cfg.Listen.ListenAddr, cfg.Listen.DrainPeriod = next(&c.ports.edge), drainPeriod
	cfg.Auth.DaemonJWTSecret, cfg.Auth.AllowInsecureSecret = c.secret, true
	cfg.Admin.AdminAddr = next(&c.ports.admin)
	e, err := edge.New(cfg, c.logger)
	if err != nil {
		return fmt.Errorf("start %s: %w", cfg.NodeName, err)
	}
	c.edges = append(c.edges, e)
	c.gossip = append(c.gossip, e.Member().Address)
	c.nodes = append(c.nodes, node{"edge", cfg.NodeName, e.AdminAddr().String(), e.Run, e.Close})
	return nil
}

func (c *Cluster) bindRouter(i int) error {
	cfg := settings.Default[router.Config]()
	cfg.Common, cfg.NATS, cfg.Log, cfg.Ring = c.common("router", i), c.natsConfig(), c.logConfig(), c.ringConfig()
	cfg.Postgres, cfg.Admin.AdminAddr = c.cfg.Postgres, next(&c.ports.admin)
	r, err := router.New(cfg, c.logger)
	if err != nil {
		return fmt.Errorf("start %s: %w", cfg.NodeName, err)
	}
	c.gossip = append(c.gossip, r.GossipAddr())
	c.nodes = append(c.nodes, node{"router", cfg.NodeName, r.AdminAddr(), r.Run, r.Close})
	return nil
}

func (c *Cluster) bindBridge(i int) error {
	cfg := settings.Default[bridge.Config]()
	cfg.Common, cfg.NATS, cfg.Log = c.common("bridge", i), c.natsConfig(), c.logConfig()
	cfg.Redis.RedisURL, cfg.Postgres, cfg.Admin.AdminAddr = c.redis, c.cfg.Postgres, next(&c.ports.admin)
	b, err := bridge.New(cfg, c.logger)
	if err != nil {
		return fmt.Errorf("start %s: %w", cfg.NodeName, err)
	}
	c.nodes = append(c.nodes, node{"bridge", cfg.NodeName, b.AdminAddr().String(), b.Run, b.Close})
	return nil
}

func (c *Cluster) common(tier string, i int) settings.Common {
	return settings.Common{NodeName: fmt.Sprintf("%s-%d", tier, i+1), ShutdownTimeout: stopTimeout, Logging: c.cfg.Logging()}
}

func (c *Cluster) natsConfig() natsconn.Config { return natsconn.Config{NATSURL: c.nats} }

func (c *Cluster) logConfig() eventlog.Config {
	cfg := settings.Default[eventlog.Config]()
	cfg.LogMaxBytes = logMaxBytes
	return cfg
}

func (c *Cluster) ringConfig() ring.Config {
	cfg := settings.Default[ring.Config]()
	cfg.ClusterName, cfg.GossipAddr, cfg.GossipJoin = clusterName, address(0), c.gossip
	return cfg
}

// next returns where the next node of a row listens, and counts on.
func next(port *int) string {
	wanted := *port
	if wanted != 0 {
		*port++
	}
	return address(free(wanted))
}

// EdgeURLs are the WebSocket addresses of the edges.
func (c *Cluster) EdgeURLs() []string {
	var urls []string
	for _, e := range c.edges {
		urls = append(urls, "ws://"+e.Addr().String()+"/daemon/ws")
	}
	return urls
}

// RedisURL is where to publish as Neolith does.
func (c *Cluster) RedisURL() string { return string(c.redis) }

// NATSURL is where to publish into the log directly.
func (c *Cluster) NATSURL() string { return string(c.nats[0]) }

// Token returns an access token that is valid for the given time.
func (c *Cluster) Token(orchestrator protocol.OrchestratorID, daemon protocol.DaemonID, valid time.Duration) (string, error) {
	return auth.Mint(c.secret, auth.Grant{Orchestrator: orchestrator, Daemon: daemon, ExpiresAt: time.Now().Add(valid)})
}

// Run serves until ctx ends, then stops every node gracefully: bridges, routers
// and edges side by side, and the servers last.
func (c *Cluster) Run(ctx context.Context) error {
	group := lifecycle.NewGroup(ctx)
	for _, n := range c.nodes {
		group.Go(n.name, n.run)
	}
	group.Go("account", c.account)
	err := group.Wait()
	if closeErr := c.teardown.Stop(context.Background()); err == nil {
		err = closeErr
	}
	return err
}

// Close gives back what New took, for a cluster that is not run.
func (c *Cluster) Close() error {
	for _, n := range c.nodes {
		_ = n.close()
	}
	return c.teardown.Stop(context.Background())
}
