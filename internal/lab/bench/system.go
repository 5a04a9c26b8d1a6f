package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/load"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// contestant is what can be measured: a gateway of some revision, or what it
// replaces.
type contestant struct {
	name     string
	binaries cluster.Binaries // of a gateway
	command  []string         // otherwise
}

func (c contestant) gateway() bool { return c.command == nil }

// The names of what is compared.
const (
	this      = "this"
	base      = "base"
	reference = "reference"
	limit     = "limit"
)

// contestants builds what is to be measured.
func (b *bench) contestants(ctx context.Context) ([]contestant, error) {
	all := []contestant{{name: this, binaries: b.Binaries}}
	if b.options.base != "" {
		binaries, err := b.buildBase(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, contestant{name: base, binaries: binaries})
	}
	command, err := b.referenceCommand()
	if err != nil {
		return nil, err
	}
	if command != nil {
		all = append(all, contestant{name: reference, command: command})
	}
	return all, nil
}

// buildBase builds the programs of another revision from a work tree of their
// own, which does not stay. The servers are the same ones.
func (b *bench) buildBase(ctx context.Context) (cluster.Binaries, error) {
	b.Say("building %s…", b.options.base)
	source := filepath.Join(b.Dir, "base")
	git := func(args ...string) error {
		if out, err := exec.CommandContext(ctx, "git", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := git("worktree", "add", "--detach", source, b.options.base); err != nil {
		return cluster.Binaries{}, err
	}
	defer func() {
		ctx = context.WithoutCancel(ctx)
		if err := git("worktree", "remove", "--force", source); err != nil {
			b.Say("a work tree is left behind: %v", err)
		}
	}()
	dir := filepath.Join(b.Dir, "bin-base")
	if err := cluster.BuildPrograms(ctx, source, dir); err != nil {
		return cluster.Binaries{}, err
	}
	binaries, err := cluster.Built(dir)
	binaries.NATS = b.Binaries.NATS
	return binaries, err
}

// referenceServer is in this repository, and what make runs has its root as
// working directory.
const referenceServer = "internal/lab/bench/reference/server.js"

// referenceCommand is nil if nothing is to be compared with.
func (b *bench) referenceCommand() ([]string, error) {
	if b.options.secure || b.options.database || b.options.servers > 1 {
		return nil, nil // it knows nothing of that
	}
	switch b.options.reference {
	case "none":
		return nil, nil
	case "auto":
		node, err := exec.LookPath("node")
		if err != nil {
			b.Say("there is no Node here to run the server that the gateway replaces")
			return nil, nil
		}
		server, err := filepath.Abs(referenceServer)
		if err == nil {
			_, err = os.Stat(server)
		}
		return []string{node, server}, err
	}
	command := strings.Fields(b.options.reference)
	program, err := exec.LookPath(command[0])
	if err != nil {
		return nil, err
	}
	return append([]string{program}, command[1:]...), nil
}

// layout is what a gateway consists of, beside its servers, one router and one
// bridge.
type layout struct {
	edges      int
	heartbeats time.Duration // between two of a daemon; 0: the usual
}

// system is a contestant that runs.
type system struct {
	name        string
	gateway     bool
	layout      layout
	urls        []string
	secret      settings.Secret
	tls         *tls.Config
	unconfirmed bool // nobody answers a subscribe

	nats       []*process.NATS
	partitions int
	redis      *process.Redis
	bridges    []*cluster.Node
	tiers      []tier
	close      func()
	crashes    func() []string
}

// tier is programs of one kind.
type tier struct {
	name      string
	processes []*process.Process
	nodes     []*cluster.Node // none if they are not the gateway's
}

func (c contestant) open(ctx context.Context, b *bench, l layout) (*system, error) {
	if c.gateway() {
		return c.openGateway(ctx, b, l)
	}
	return c.openReference(ctx, b, l)
}

func (c contestant) openGateway(ctx context.Context, b *bench, l layout) (*system, error) {
	environment := map[string]string{"LOG_LEVEL": "warn", "RATE_MESSAGES_PER_MINUTE": "100000"}
	if b.options.profiles != "" {
		environment["ENABLE_PPROF"] = "true"
	}
	if l.heartbeats > 0 {
		environment["WS_HEARTBEAT_INTERVAL"] = l.heartbeats.String()
	}
	around, err := b.surround(environment)
	if err != nil {
		return nil, err
	}
	s := &system{
		name: c.name, gateway: true, layout: l, secret: cluster.Secret, tls: around.tls,
		close: func() {
			if b.Cluster != nil {
				b.Close()
			}
			around.remove()
		},
	}
	if err := b.Open(ctx, cluster.Config{
		Binaries: c.binaries, NATS: b.options.servers, Edges: l.edges, Routers: 1, Bridges: 1, Settings: environment,
	}); err != nil {
		s.close()
		return nil, err
	}
	s.urls, s.nats, s.partitions, s.redis, s.bridges, s.crashes = b.URLs(), b.NATS, b.Partitions, b.Redis, b.Bridges, b.Crashes
	for _, t := range []struct {
		name  string
		nodes []*cluster.Node
	}{{"edges", b.Edges}, {"router", b.Routers}, {"bridge", b.Bridges}} {
		s.tiers = append(s.tiers, tierOf(t.name, t.nodes))
	}
	servers := tier{name: "NATS"}
	for _, server := range b.NATS {
		servers.processes = append(servers.processes, server.Process)
	}
	s.tiers = append(s.tiers, servers, redisTier(b.Redis))
	if err := b.remember(ctx, s, b.options.known); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func tierOf(name string, nodes []*cluster.Node) tier {
	t := tier{name: name, nodes: nodes}
	for _, n := range nodes {
		t.processes = append(t.processes, n.Process)
	}
	return t
}

func redisTier(r *process.Redis) tier {
	return tier{name: "Redis", processes: []*process.Process{r.Process}}
}

// referenceSecret is of its own: it is in the environment of a foreign program.
const referenceSecret = "a secret of thirty-two bytes or more, for measurements"

func (c contestant) openReference(ctx context.Context, b *bench, l layout) (*system, error) {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	redis, err := process.NewRedis(process.Server{Name: "redis", Dir: b.Dir, Program: b.Binaries.Redis})
	if err != nil {
		return nil, err
	}
	address, err := process.Reserve(process.Loopback)
	if err != nil {
		return nil, err
	}
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	server := process.New(process.Config{
		Name: c.name, Dir: b.Dir, Program: c.command[0], Args: c.command[1:],
		Env: []string{
			"PATH=" + os.Getenv("PATH"), "PORT=" + port(address), "REDIS_PORT=" + port(redis.Addr), "JWT_SECRET=" + referenceSecret,
		},
	})
	s := &system{
		name: c.name, layout: l, urls: []string{"ws://" + address + "/daemon/ws"}, secret: referenceSecret, unconfirmed: true,
		redis: redis, tiers: []tier{{name: "server", processes: []*process.Process{server}}, redisTier(redis)},
		close:   func() { server.Kill(); redis.Kill() },
		crashes: func() []string { return nil },
	}
	if err := s.start(ctx, server, address); err != nil {
		s.close()
		return nil, fmt.Errorf("start %s: %w", strings.Join(c.command, " "), err)
	}
	return s, nil
}

// start starts Redis and a server that connects to it.
func (s *system) start(ctx context.Context, server *process.Process, address string) error {
	if err := s.redis.Start(); err != nil {
		return err
	}
	if err := s.redis.AwaitReady(ctx); err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	return server.Await(ctx, func() error {
		answer, err := process.Get(ctx, "http://"+address+"/")
		if err == nil {
			_ = answer.Body.Close()
		}
		return err
	})
}

// openLog is where publishers that know the log publish; Redis where there is
// none.
func (s *system) openLog() (load.Entrance, error) {
	if len(s.nats) == 0 {
		return s.openRedis()
	}
	return load.OpenLog(process.NATSURL(s.nats), s.partitions)
}

func (s *system) openRedis() (load.Entrance, error) { return load.OpenRedis(s.redis.Addr) }
