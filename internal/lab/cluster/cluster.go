// Package cluster runs a whole gateway as separate processes on this machine:
// NATS servers, Redis, bridges, routers and edges, each with its settings in
// its environment, on addresses that stay the same when a process is killed
// and started again. Tests and the chaos runs are built on it; it knows
// nothing of what they publish or expect, and nothing of package testing.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// Config says how large a cluster is. The zero counts mean 1 NATS server, 2
// bridges, 2 routers and 3 edges.
type Config struct {
	Binaries Binaries
	// Dir is an existing directory for logs and data.
	Dir                           string
	NATS, Bridges, Routers, Edges int
	// Settings are given to every node, by environment name; they replace the
	// defaults of the harness.
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

func (cfg Config) place(name string) (Place, error) {
	if cfg.Place == nil {
		return Place{IP: process.Loopback}, nil
	}
	p, err := cfg.Place(name)
	if err != nil {
		return Place{}, fmt.Errorf("find a place for %s: %w", name, err)
	}
	return p, nil
}

func (cfg Config) server(name, program string) (process.Server, error) {
	place, err := cfg.place(name)
	return process.Server{Name: name, Dir: cfg.Dir, Prefix: place.Command, Program: program, IP: place.IP}, err
}

// Cluster is the processes; none runs before Start. The fields are not changed
// after New.
type Cluster struct {
	NATS    []*process.NATS
	Redis   *process.Redis
	Bridges []*Node
	Routers []*Node
	Edges   []*Node
}

// Secret is what the cluster's access tokens are signed with.
const Secret = "a secret of thirty-two bytes or more, for tests alone"

// gossipKey is any AES key: gossip is encrypted as in production.
const gossipKey = "bm90IGEgc2VjcmV0LCBmb3IgdGVzdHMgYWxvbmUhISE="

// New lays a cluster out: addresses, configuration files, environments.
func New(cfg Config) (*Cluster, error) {
	cfg.NATS, cfg.Bridges = orDefault(cfg.NATS, 1), orDefault(cfg.Bridges, 2)
	cfg.Routers, cfg.Edges = orDefault(cfg.Routers, 2), orDefault(cfg.Edges, 3)
	c := &Cluster{}
	if err := c.layServersOut(cfg); err != nil {
		return nil, err
	}
	plan, err := c.plan(cfg)
	if err != nil {
		return nil, err
	}
	for _, p := range plan {
		n := &Node{AdminAddr: p.settings["ADMIN_ADDR"], Process: process.New(process.Config{
			Name: p.name, Dir: cfg.Dir, Prefix: p.place.Command, Program: p.binary, Env: p.environ(),
		})}
		switch p.binary {
		case cfg.Binaries.Edge:
			n.URL = "ws://" + p.settings["LISTEN_ADDR"] + "/daemon/ws"
			c.Edges = append(c.Edges, n)
		case cfg.Binaries.Router:
			c.Routers = append(c.Routers, n)
		default:
			c.Bridges = append(c.Bridges, n)
		}
	}
	return c, nil
}

func (c *Cluster) layServersOut(cfg Config) error {
	var nats []process.Server
	for i := range cfg.NATS {
		server, err := cfg.server(fmt.Sprintf("nats-%d", i+1), cfg.Binaries.NATS)
		if err != nil {
			return err
		}
		nats = append(nats, server)
	}
	redis, err := cfg.server("redis", cfg.Binaries.Redis)
	if err != nil {
		return err
	}
	if c.NATS, err = process.NewNATS(nats...); err != nil {
		return err
	}
	c.Redis, err = process.NewRedis(redis)
	return err
}

func orDefault(n, fallback int) int {
	if n == 0 {
		return fallback
	}
	return n
}

// planned is a node that is being laid out.
type planned struct {
	name, binary string
	place        Place
	settings     map[string]string
}

func (c *Cluster) plan(cfg Config) ([]planned, error) {
	var plan []planned
	var gossip []string
	add := func(tier, binary string, count int) error {
		for i := range count {
			p := planned{name: fmt.Sprintf("%s-%d", tier, i+1), binary: binary}
			var err error
			if p.place, err = cfg.place(p.name); err != nil {
				return err
			}
			if err := c.settle(&p, cfg); err != nil {
				return err
			}
			if addr := p.settings["GOSSIP_ADDR"]; addr != "" {
				gossip = append(gossip, addr)
			}
			plan = append(plan, p)
		}
		return nil
	}
	err := errors.Join(
		add("bridge", cfg.Binaries.Bridge, cfg.Bridges),
		add("router", cfg.Binaries.Router, cfg.Routers),
		add("edge", cfg.Binaries.Edge, cfg.Edges),
	)
	for _, p := range plan {
		if own := p.settings["GOSSIP_ADDR"]; own != "" {
			others := slices.DeleteFunc(slices.Clone(gossip), func(addr string) bool { return addr == own })
			p.settings["GOSSIP_JOIN"] = strings.Join(others, ",")
		}
		for name, value := range cfg.Settings {
			p.settings[name] = value
		}
	}
	return plan, err
}

// settle gives a node its settings, apart from whom to join.
func (c *Cluster) settle(p *planned, cfg Config) error {
	p.settings = map[string]string{
		"NODE_NAME":       p.name,
		"CLUSTER_NAME":    "processes",
		"NATS_URL":        c.NATSURL(),
		"PARTITIONS":      "16",
		"STREAM_REPLICAS": "1",
		"LOG_LEVEL":       "info",
	}
	wanted := []string{"ADMIN_ADDR"}
	switch p.binary {
	case cfg.Binaries.Bridge:
		p.settings["REDIS_URL"] = c.Redis.URL()
	case cfg.Binaries.Router:
		p.settings["GOSSIP_KEYS"] = gossipKey
		wanted = append(wanted, "GOSSIP_ADDR")
	default:
		p.settings["GOSSIP_KEYS"] = gossipKey
		p.settings["DAEMON_JWT_SECRET"] = Secret
		// All daemons of a test have one IP address.
		p.settings["RATE_CONNECTS_PER_IP"] = "10000"
		p.settings["DRAIN_PERIOD"] = "2s"
		wanted = append(wanted, "GOSSIP_ADDR", "LISTEN_ADDR")
	}
	for _, name := range wanted {
		addr, err := process.Reserve(p.place.IP)
		if err != nil {
			return err
		}
		p.settings[name] = addr
	}
	return nil
}

// environ is the node's whole environment: nothing that happens to be set for
// the test may configure it.
func (p planned) environ() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range p.settings {
		env = append(env, name+"="+value)
	}
	return env
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
	if err := c.StartNodes(); err != nil {
		return err
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

// StartNodes starts the gateway's own processes and does not wait.
func (c *Cluster) StartNodes() error {
	var err error
	for _, n := range c.Nodes() {
		err = errors.Join(err, n.Start())
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
