package e2e_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/neolith/daemon-gateway/internal/e2e/cluster"
)

// binaries are built once, before the first test.
var binaries cluster.Binaries

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gateway-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if binaries, err = cluster.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
