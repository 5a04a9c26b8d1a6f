package cluster

import (
	"context"
	"os"
	"path/filepath"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

const module = "github.com/neolith/daemon-gateway"

// Binaries are the programs that a cluster consists of.
type Binaries struct {
	Edge, Router, Bridge string
	NATS, Redis          string
}

// Build builds the gateway's programs into dir, puts the NATS server of go.mod
// beside them, and finds redis-server. The go command must be there, and the
// working directory within the module.
func Build(ctx context.Context, dir string) (Binaries, error) {
	b, err := Built(dir)
	if err != nil {
		return Binaries{}, err
	}
	if err := BuildPrograms(ctx, "", dir); err != nil {
		return Binaries{}, err
	}
	nats, err := process.NATSProgram(ctx)
	if err != nil {
		return Binaries{}, err
	}
	_ = os.Remove(b.NATS) // of an earlier run
	return b, os.Symlink(nats, b.NATS)
}

// BuildPrograms builds the gateway's own programs into dir, from the sources of
// this or of another version in a directory; "" is the working directory.
func BuildPrograms(ctx context.Context, source, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var packages []string
	for _, name := range []string{"edge", "router", "publisher-bridge"} {
		packages = append(packages, module+"/cmd/"+name)
	}
	// -o with a directory names each program after its package.
	return process.GoBuild(ctx, source, dir+string(filepath.Separator), packages...)
}

// Built returns what Build has put into dir, and where it found redis-server.
func Built(dir string) (Binaries, error) {
	redis, err := process.RedisProgram()
	if err != nil {
		return Binaries{}, err
	}
	return Binaries{
		Edge:   filepath.Join(dir, "edge"),
		Router: filepath.Join(dir, "router"),
		Bridge: filepath.Join(dir, "publisher-bridge"),
		NATS:   filepath.Join(dir, "nats-server"),
		Redis:  redis,
	}, nil
}
