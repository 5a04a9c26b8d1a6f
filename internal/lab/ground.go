package lab

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/network"
)

// ground is what a run takes place on.
type ground struct {
	name    string // of the scenario
	dir     string
	level   string
	seed    uint64
	network string // empty: the scenario cuts no links
}

// Whether a run must have a private network.
const (
	networkAuto     = "auto"
	networkRequired = "required"
	networkNone     = "none"
)

// newGround registers what all scenarios can be told.
func newGround(s Scenario, flags *flag.FlagSet) *ground {
	g := &ground{name: s.Name}
	flags.StringVar(&g.dir, "dir", "", "where programs, logs and data go and stay; default: a directory that is removed after a good run")
	flags.StringVar(&g.level, "log-level", "", "LOG_LEVEL of the nodes; default: the scenario's")
	flags.Uint64Var(&g.seed, "seed", 0, "what the run is drawn from; 0: a new one, which is printed")
	if s.Network {
		flags.StringVar(&g.network, "network", networkAuto, "whether each process gets a network namespace, so that links can be cut: \"auto\" (where this machine allows it), \"required\" or \"none\"")
	}
	return g
}

// entered names, for the program that has entered namespaces of its own, the
// directory that is prepared already.
const entered = "GATEWAY_LAB_ENTERED"

// prepare builds the programs and then, if it may have a private network, has
// the program start again within namespaces of its own: from there the go
// command could not reach a module proxy.
func (g *ground) prepare(ctx context.Context) (*World, error) {
	if g.seed == 0 {
		g.seed = rand.Uint64N(1_000_000) + 1
	}
	w := &World{Seed: g.seed, LogLevel: g.level}
	if dir := os.Getenv(entered); dir != "" {
		w.Dir = dir
		return w, g.enter(w)
	}
	cuts, err := g.mayCut()
	if err != nil {
		return w, err
	}
	if w.Dir, err = g.directory(); err != nil {
		return w, err
	}
	fmt.Println("building…")
	w.Binaries, err = cluster.Build(ctx, binariesIn(w.Dir))
	if err != nil || !cuts {
		return w, err
	}
	return w, network.Enter(append(os.Environ(), entered+"="+w.Dir))
}

// mayCut reports whether there can be a private network, and says so if there
// cannot; then it fails if there must be one.
func (g *ground) mayCut() (bool, error) {
	switch g.network {
	case "", networkNone:
		return false, nil
	case networkAuto, networkRequired:
	default:
		return false, fmt.Errorf("-network %q: expected %s, %s or %s", g.network, networkAuto, networkRequired, networkNone)
	}
	err := network.Check()
	if err == nil || g.network == networkRequired {
		return err == nil, err
	}
	fmt.Printf("no links are cut in this run, processes are broken alone: %v\n", err)
	return false, nil
}

func (g *ground) directory() (string, error) {
	if g.dir == "" {
		return os.MkdirTemp("", "gateway-"+g.name)
	}
	dir, err := filepath.Abs(g.dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func binariesIn(dir string) string { return filepath.Join(dir, "bin") }

func (g *ground) enter(w *World) (err error) {
	if w.Binaries, err = cluster.Built(binariesIn(w.Dir)); err != nil {
		return err
	}
	w.Network, err = network.New()
	return err
}

// place says where the processes run; nil: on loopback.
func (w *World) place() func(process string) (cluster.Place, error) {
	if w.Network == nil {
		return nil
	}
	return func(process string) (cluster.Place, error) {
		host := network.Host(process)
		ip, err := w.Network.Add(host)
		return cluster.Place{IP: ip, Command: w.Network.Command(host)}, err
	}
}
