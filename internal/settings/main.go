package settings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
)

// The exit codes of every program.
const (
	exitOK       = 0
	exitFailure  = 1
	exitSettings = 2
)

// Main is a program's main function: it reads cfg from the process's arguments
// and environment, answers --help, --version and --print-config, and calls run
// with a context that ends on SIGINT or SIGTERM. A second signal kills the
// process, so that an operator can cut an orderly stop short. It returns the
// exit code: 2 for mistakes in the settings, 1 if run failed.
func Main(program, description string, cfg any, run func(ctx context.Context) error) int {
	code, proceed := prepare(program, description, cfg, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	if !proceed {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		return exitFailure
	}
	return exitOK
}

// prepare fills cfg. It reports false where the program ends here, and then
// with which exit code.
func prepare(program, description string, cfg any, args []string, environ func(string) (string, bool), stdout, stderr io.Writer) (int, bool) {
	list, err := describe(program, description, cfg)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailure, false
	}
	switch {
	case slices.Contains(args, "--help"), slices.Contains(args, "-h"):
		writeHelp(stdout, program, description, list)
		return exitOK, false
	case slices.Contains(args, "--version"):
		fmt.Fprintln(stdout, program, buildinfo.Get())
		return exitOK, false
	}
	rest := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "--print-config" })
	if err := Parse(program, description, cfg, rest, environ); err != nil {
		fmt.Fprintln(stderr, err)
		return exitSettings, false
	}
	if len(rest) < len(args) {
		writeConfig(stdout, list)
		return exitOK, false
	}
	return exitOK, true
}
