// Package cluster runs a whole gateway as separate processes on this machine:
// NATS servers, Redis, bridges, routers and edges, each with its settings in
// its environment, on addresses that stay the same when a process is killed
// and started again. It knows nothing of what is published or expected, and
// nothing of package testing.
package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// Config says how large a cluster is. The zero counts mean 1 NATS server, 2
// bridges, 2 routers, 3 edges and 16 partitions.
type Config struct {
	Binaries Binaries
	// Dir is an existing directory for logs and data.
	Dir                           string
	NATS, Bridges, Routers, Edges int
	Partitions                    int
	// Settings are given to every node, by environment name; they replace what the
	// node has otherwise.
	Settings map[string]string
	// Place says where each process runs. Nil: all of them share loopback.
	Place func(name string) (Place, error)
}

// Place is where a process runs: on this machine, but it may have an address
// of its own.
type Place struct {
	// IP is the address that it listens on.
	IP string
	// Command is what to put before a command to have it run there, as the same
	// process; none by default.
	Command []string
}

func (cfg Config) server(name, program string) (process.Server, error) {
	place, err := cfg.Place(name)
	return process.Server{Name: name, Dir: cfg.Dir, Prefix: place.Command, Program: program, IP: place.IP}, err
}

// Cluster is the processes; none runs before Start. The fields are not changed
// after New.
type Cluster struct {
	NATS       []*process.NATS
	Redis      *process.Redis
	Bridges    []*Node
	Routers    []*Node
	Edges      []*Node
	Partitions int
}

// Secret is what the cluster's access tokens are signed with.
const Secret = "a secret of thirty-two bytes or more, for tests alone"

const (
	// Name is the cluster's, and GossipKey any AES key: gossip is encrypted as in
	// production.
	Name      = "processes"
	GossipKey = "bm90IGEgc2VjcmV0LCBmb3IgdGVzdHMgYWxvbmUhISE="
)

// New lays a cluster out: addresses, configuration files, environments.
func New(cfg Config) (*Cluster, error) {
	if cfg.Place == nil {
		cfg.Place = func(string) (Place, error) { return Place{IP: process.Loopback}, nil }
	}
	c := &Cluster{Partitions: cmp.Or(cfg.Partitions, 16)}
	if err := c.layServersOut(cfg); err != nil {
		return nil, err
	}
	var plan []planned
	for _, t := range c.tiers(cfg) {
		for i := range t.count {
			p, err := c.plan(cfg, t, fmt.Sprintf("%s-%d", t.name, i+1))
			if err != nil {
				return nil, err
			}
			plan = append(plan, p)
		}
	}
	for _, p := range plan {
		var others []string
		for _, other := range plan {
			if addr := other.settings["GOSSIP_ADDR"]; addr != "" && other.name != p.name {
				others = append(others, addr)
			}
		}
		if p.settings["GOSSIP_ADDR"] != "" {
			p.settings["GOSSIP_JOIN"] = strings.Join(others, ",")
		}
		maps.Copy(p.settings, cfg.Settings)
		*p.nodes = append(*p.nodes, p.node(cfg.Dir))
	}
	return c, nil
}

func (c *Cluster) layServersOut(cfg Config) (err error) {
	servers := make([]process.Server, cmp.Or(cfg.NATS, 1))
	for i := range servers {
		if servers[i], err = cfg.server(fmt.Sprintf("nats-%d", i+1), cfg.Binaries.NATS); err != nil {
			return err
		}
	}
	redis, err := cfg.server("redis", cfg.Binaries.Redis)
	if err != nil {
		return err
	}
	if c.NATS, err = process.NewNATS(servers...); err != nil {
		return err
	}
	c.Redis, err = process.NewRedis(redis)
	return err
}

// tier is nodes of one kind.
type tier struct {
	name, program string
	count         int
	nodes         *[]*Node
	addresses     []string          // settings that are an address of the node's own
	settings      map[string]string // that it alone has
}

func (c *Cluster) tiers(cfg Config) []tier {
	return []tier{
		{"bridge", cfg.Binaries.Bridge, cmp.Or(cfg.Bridges, 2), &c.Bridges, []string{"ADMIN_ADDR"}, map[string]string{"REDIS_URL": c.Redis.URL()}},
		{"router", cfg.Binaries.Router, cmp.Or(cfg.Routers, 2), &c.Routers, []string{"ADMIN_ADDR", "GOSSIP_ADDR"}, map[string]string{"GOSSIP_KEYS": GossipKey}},
		{"edge", cfg.Binaries.Edge, cmp.Or(cfg.Edges, 3), &c.Edges, []string{"ADMIN_ADDR", "GOSSIP_ADDR", "LISTEN_ADDR"}, map[string]string{
			"GOSSIP_KEYS": GossipKey, "DAEMON_JWT_SECRET": Secret, "DRAIN_PERIOD": "2s",
			// All daemons of a test have one IP address.
			"RATE_CONNECTS_PER_IP": "10000",
		}},
	}
}

// planned is a node that is being laid out.
type planned struct {
	tier
	name     string
	place    Place
	settings map[string]string
}

// plan gives a node its place and settings, apart from whom to join.
func (c *Cluster) plan(cfg Config, t tier, name string) (p planned, err error) {
	replicas := "1"
	if len(c.NATS) >= 3 {
		replicas = "3"
	}
	p = planned{tier: t, name: name, settings: map[string]string{
		"NODE_NAME": name, "CLUSTER_NAME": Name, "NATS_URL": c.NATSURL(),
		"PARTITIONS": strconv.Itoa(c.Partitions), "STREAM_REPLICAS": replicas, "LOG_LEVEL": "info",
	}}
	maps.Copy(p.settings, t.settings)
	if p.place, err = cfg.Place(name); err != nil {
		return p, fmt.Errorf("find a place for %s: %w", name, err)
	}
	for _, setting := range t.addresses {
		if p.settings[setting], err = process.Reserve(p.place.IP); err != nil {
			return p, err
		}
	}
	return p, nil
}

// node has nothing in its environment but its settings: nothing that happens to
// be set for the test may configure it.
func (p planned) node(dir string) *Node {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range p.settings {
		env = append(env, name+"="+value)
	}
	n := &Node{AdminAddr: p.settings["ADMIN_ADDR"], GossipAddr: p.settings["GOSSIP_ADDR"], Process: process.New(process.Config{
		Name: p.name, Dir: dir, Prefix: p.place.Command, Program: p.program, Env: env,
	})}
	if listen := p.settings["LISTEN_ADDR"]; listen != "" {
		n.URL = "ws://" + listen + "/daemon/ws"
		if p.settings["TLS_CERT_FILE"] != "" {
			n.URL = "wss://" + listen + "/daemon/ws"
		}
	}
	return n
}

// NATSURL is where clients connect to any of the NATS servers.
func (c *Cluster) NATSURL() string { return process.NATSURL(c.NATS) }

// Nodes returns bridges, routers and edges.
func (c *Cluster) Nodes() []*Node { return slices.Concat(c.Bridges, c.Routers, c.Edges) }

// Processes returns all processes, servers first.
func (c *Cluster) Processes() []*process.Process {
	var all []*process.Process
	for _, s := range c.NATS {
		all = append(all, s.Process)
	}
	all = append(all, c.Redis.Process)
	for _, n := range c.Nodes() {
		all = append(all, n.Process)
	}
	return all
}

// Start starts every process that does not run, and waits until all are ready
// and know one another.
func (c *Cluster) Start(ctx context.Context) error {
	if err := c.StartServers(ctx); err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return c.AwaitReady(ctx)
}

// StartServers starts NATS and Redis and waits until they are ready.
func (c *Cluster) StartServers(ctx context.Context) error {
	if err := errors.Join(c.Redis.Start(), c.StartNATS(ctx)); err != nil {
		return err
	}
	return c.Redis.AwaitReady(ctx)
}

// StartNATS starts the NATS servers and waits until they are ready.
func (c *Cluster) StartNATS(ctx context.Context) (err error) {
	for _, s := range c.NATS {
		if err := s.Start(); err != nil {
			return err
		}
	}
	for _, s := range c.NATS {
		err = errors.Join(err, s.AwaitReady(ctx))
	}
	return err
}

// AwaitReady waits until all nodes are ready, and all edges and routers see
// each other.
func (c *Cluster) AwaitReady(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
	}
	for _, n := range slices.Concat(c.Routers, c.Edges) {
		if err := n.AwaitMetric(ctx, "gateway_directory_members", float64(len(c.Routers)+len(c.Edges))); err != nil {
			return err
		}
	}
	return nil
}

// StopNodes stops the gateway's own processes gracefully, side by side.
func (c *Cluster) StopNodes(ctx context.Context) error {
	var wg sync.WaitGroup
	nodes := c.Nodes()
	failures := make([]error, len(nodes))
	for i, n := range nodes {
		wg.Go(func() { failures[i] = n.Stop(ctx) })
	}
	wg.Wait()
	return errors.Join(failures...)
}

// Close kills whatever still runs, the gateway first.
func (c *Cluster) Close() {
	for _, p := range slices.Backward(c.Processes()) {
		p.Kill()
	}
}

// Crashes returns what a node never writes unless it has a bug: panics, fatal
// errors of the runtime and data races.
func (c *Cluster) Crashes() []string {
	var found []string
	for _, n := range c.Nodes() {
		text, err := os.ReadFile(n.LogFile())
		if err != nil {
			continue // never started
		}
		for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
			if i := bytes.Index(text, []byte(sign)); i >= 0 {
				found = append(found, n.Name()+": "+string(text[i:min(len(text), i+4000)]))
			}
		}
	}
	return found
}

// Report shows the last lines of every process's log.
func (c *Cluster) Report(lines int) string {
	var b strings.Builder
	for _, p := range c.Processes() {
		fmt.Fprintf(&b, "---- %s (running: %t, %s)\n%s\n", p.Name(), p.Running(), p.LogFile(), p.Tail(lines))
	}
	return b.String()
}
