// Suite runs the tests of the project, which is what make test does, or repeats
// them:
//
//	go run ./scripts/suite [flags] [packages] [-- flags of go test]
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
	"github.com/neolith/daemon-gateway/internal/lab/suite"
)

func main() {
	suite.ComputeIfAsked()
	suite.StutterIfAsked()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	passed, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
	}
	if !passed {
		os.Exit(1)
	}
}

func run(ctx context.Context) (passed bool, err error) {
	times := flag.Int("times", 1, "run the tests so often, and tell no more than how each run went")
	each := flag.Bool("each", false, "repeat each package by itself")
	busy := flag.Int("busy", 0, "processes that compute beside the tests without pause")
	stutter := flag.Bool("stutter", false, "have the tests stand still at random moments, with the servers that they have started")
	seed := flag.Uint64("seed", 0, "draw these moments again; 0: new ones")
	long := flag.Bool("long", false, "run the tests that explore at random, and let them explore for long")
	race := flag.Bool("race", false, "look for data races, which takes twice the time and a C compiler")
	unraced := flag.Bool("unraced", false, "run the tests in which there is no data race to be found, which -race leaves out")
	path := flag.String("log", os.DevNull, "file for what repeated runs say")
	flag.Parse()
	packages, flags := split(flag.Args())
	if *long {
		if err := os.Setenv(budget.Long, "1"); err != nil {
			return false, err
		}
		if packages, err = suite.Exploring(ctx, packages); err != nil {
			return false, err
		}
	}
	if *race {
		flags = append(flags, "-race")
		if slices.Equal(packages, everything) {
			if packages, err = suite.Raced(ctx, packages); err != nil {
				return false, err
			}
		}
	}
	if *unraced {
		if packages, err = suite.Unraced(ctx, packages); err != nil {
			return false, err
		}
	}
	if *times == 1 && *busy == 0 && !*each && !*stutter {
		if packages, err = suite.LongestFirst(ctx, packages); err != nil {
			return false, err
		}
		report, err := suite.Run(ctx, os.Stdout, slices.Contains(flags, "-v"), append(flags, packages...)...)
		if report == nil {
			return false, err
		}
		report.Close()
		return report.Passed(), err
	}
	log, err := os.Create(*path)
	if err != nil {
		return false, fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	r := suite.Repetition{Packages: [][]string{packages}, Flags: flags, Times: *times, Busy: *busy}
	if *stutter {
		r.Stutter = cmp.Or(*seed, rand.Uint64N(1<<20)+1)
		fmt.Println("the tests stutter from seed", r.Stutter)
	}
	if *each {
		tested, err := suite.Tested(ctx, packages)
		if err != nil {
			return false, err
		}
		r.Packages = nil
		for _, name := range tested {
			r.Packages = append(r.Packages, []string{name})
		}
	}
	return r.Repeat(ctx, os.Stdout, io.Writer(log))
}

// everything is what is run where nothing is named.
var everything = []string{"./..."}

// split tells packages from what comes after them, the flags of go test.
func split(arguments []string) (packages, flags []string) {
	n := slices.IndexFunc(arguments, func(a string) bool { return strings.HasPrefix(a, "-") })
	if n < 0 {
		n = len(arguments)
	}
	packages, flags = arguments[:n], arguments[n:]
	if len(packages) == 0 {
		packages = everything
	}
	if len(flags) > 0 && flags[0] == "--" {
		flags = flags[1:]
	}
	return packages, flags
}
