// Fuzz runs the project's fuzz targets one after the other, which is what make
// fuzz does:
//
//	go run ./scripts/fuzz [-time 1m] [-list] [parts of packages or names]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/neolith/daemon-gateway/internal/lab/fuzzing"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	each := flag.String("time", "1m", "how long each target is fuzzed, or how often, such as 1000x")
	list := flag.Bool("list", false, "only list the targets")
	flag.Parse()
	targets, err := fuzzing.Targets(".")
	if err != nil {
		return err
	}
	if flag.NArg() > 0 {
		targets = slices.DeleteFunc(targets, func(t fuzzing.Target) bool {
			return !slices.ContainsFunc(flag.Args(), func(part string) bool { return strings.Contains(t.String(), part) })
		})
	}
	if len(targets) == 0 {
		return errors.New("there is no such target")
	}
	if *list {
		for _, t := range targets {
			fmt.Println(t)
		}
		return nil
	}
	return fuzzing.Run(ctx, ".", os.Stdout, targets, *each)
}
