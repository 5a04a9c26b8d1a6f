package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

// binaries are built once, before the first test.
var binaries cluster.Binaries

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	testAtOnce()
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

// testAtOnce has some tests more run at a time than there are processors, unless
// -parallel says how many: mostly they wait, for members that are forgotten, drains
// and time limits.
func testAtOnce() {
	const parallel, atLeast = "test.parallel", 4
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == parallel })
	if !said {
		_ = flag.Set(parallel, strconv.Itoa(max(atLeast, runtime.GOMAXPROCS(0))))
	}
}
