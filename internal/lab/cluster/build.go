package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	module     = "github.com/neolith/daemon-gateway"
	natsModule = "github.com/nats-io/nats-server/v2"
)

// Binaries are the programs that a cluster consists of.
type Binaries struct {
	Edge, Router, Bridge string
	NATS, Redis          string
}

// Build builds the gateway's programs and the NATS server of go.mod into dir,
// and finds redis-server in PATH. The go command must be there, and the working
// directory within the module. flags, such as -race, are for the gateway's own
// programs.
func Build(ctx context.Context, dir string, flags ...string) (Binaries, error) {
	b, err := Built(dir)
	if err != nil {
		return Binaries{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Binaries{}, err
	}
	var packages []string
	for _, name := range []string{"edge", "router", "publisher-bridge"} {
		packages = append(packages, module+"/cmd/"+name)
	}
	// -o with a directory names each program after its package; the server's
	// package path ends in its major version, so it is named by hand.
	if err := GoBuild(ctx, dir+string(filepath.Separator), append(flags, packages...)...); err != nil {
		return Binaries{}, err
	}
	return b, GoBuild(ctx, b.NATS, natsModule)
}

// Built returns what Build has put into dir, and where it found redis-server.
func Built(dir string) (Binaries, error) {
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		return Binaries{}, fmt.Errorf("redis-server is not in PATH: install it " +
			"(Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis)")
	}
	return Binaries{
		Edge:   filepath.Join(dir, "edge"),
		Router: filepath.Join(dir, "router"),
		Bridge: filepath.Join(dir, "publisher-bridge"),
		NATS:   filepath.Join(dir, "nats-server"),
		Redis:  redis,
	}, nil
}

// GoBuild runs go build as make build does, so that nothing is compiled twice.
func GoBuild(ctx context.Context, output string, arguments ...string) error {
	args := append([]string{"build", "-o", output}, arguments...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
