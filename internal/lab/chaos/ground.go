package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/network"
)

// demand says whether a run must have a private network.
type demand string

const (
	networkAuto     demand = "auto"
	networkRequired demand = "required"
	networkNone     demand = "none"
)

// String is for package flag.
func (d *demand) String() string { return string(*d) }

// Set is for package flag.
func (d *demand) Set(text string) error {
	switch demand(text) {
	case networkAuto, networkRequired, networkNone:
		*d = demand(text)
		return nil
	}
	return fmt.Errorf("expected %s, %s or %s", networkAuto, networkRequired, networkNone)
}

// ground is what a run takes place on.
type ground struct {
	dir      string // for logs and data
	binaries cluster.Binaries
	network  *network.Network // nil: loopback
}

// entered names, for the program that has entered namespaces of its own, the
// directory that is prepared already.
const entered = "GATEWAY_CHAOS_ENTERED"

// prepare builds the programs and then, if it may have a private network, has
// the program start again within namespaces of its own: from there the go
// command could not reach a module proxy.
func prepare(ctx context.Context, o options) (ground, error) {
	if dir := os.Getenv(entered); dir != "" {
		return enter(dir)
	}
	cuts, err := mayCut(o.network)
	if err != nil {
		return ground{}, err
	}
	dir, err := workingDirectory(o)
	if err != nil {
		return ground{}, err
	}
	binaries, err := cluster.Build(ctx, binariesIn(dir))
	if err != nil || !cuts {
		return ground{dir: dir, binaries: binaries}, err
	}
	return ground{}, network.Enter(append(os.Environ(), entered+"="+dir))
}

// mayCut reports whether there can be a private network, and says so if there
// cannot; then it fails if there must be one.
func mayCut(d demand) (bool, error) {
	if d == networkNone {
		return false, nil
	}
	err := network.Check()
	if err == nil || d == networkRequired {
		return err == nil, err
	}
	fmt.Printf("no links are cut in this run, processes are broken alone: %v\n", err)
	return false, nil
}

func workingDirectory(o options) (string, error) {
	if o.dir != "" {
		return filepath.Abs(o.dir)
	}
	return os.MkdirTemp("", "gateway-chaos")
}

func binariesIn(dir string) string { return filepath.Join(dir, "bin") }

func enter(dir string) (ground, error) {
	binaries, err := cluster.Built(binariesIn(dir))
	if err != nil {
		return ground{}, err
	}
	n, err := network.New()
	return ground{dir, binaries, n}, err
}

// place says where the processes run; nil: on loopback.
func (g ground) place() func(process string) (cluster.Place, error) {
	if g.network == nil {
		return nil
	}
	return func(process string) (cluster.Place, error) {
		host := network.Host(process)
		ip, err := g.network.Add(host)
		return cluster.Place{IP: ip, Command: g.network.Command(host)}, err
	}
}
