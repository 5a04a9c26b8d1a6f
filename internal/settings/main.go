package settings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
)

// Program is what a program says of itself, in --help and on the page of all
// settings.
type Program struct {
	Name        string
	Description string
	Config      any // pointer to the struct
	// Example is a command line that starts it with what it needs, for --help.
	Example string
}

// The exit codes of every program.
const (
	exitOK       = 0
	exitFailure  = 1
	exitSettings = 2
)

// Main is a program's main function: it fills p.Config from the process's arguments
// and environment, answers --help, --version and --print-config, and calls run
// with a context that ends on SIGINT or SIGTERM. A second signal kills the
// process, so that an operator can cut a graceful stop short. It returns the
// exit code: 2 for mistakes in the settings, 1 if run failed.
func Main(p Program, run func(ctx context.Context) error) int {
	code, proceed := Prepare(p, os.Args[1:], os.LookupEnv, os.Environ(), os.Stdout, os.Stderr)
	if !proceed {
		return code
	}
	// Who reads our log may be started again, as journald is: a program of Go would
	// end with the next line that it writes, and to systemd that is a good end.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return exitFailure
	}
	return exitOK
}

// exposed returns the settings whose secrets stand in args.
func exposed(list []*setting, args []string) (found []*setting) {
	for _, s := range list {
		flag := "--" + s.flag
		given := slices.ContainsFunc(args, func(arg string) bool { return arg == flag || strings.HasPrefix(arg, flag+"=") })
		if given && s.isSecret() && strings.Contains(s.text(), mask) {
			found = append(found, s)
		}
	}
	return found
}

// Prepare fills p.Config, answers --help, --version and --print-config, and tells of
// mistakes and of what is odd. It reports false where the program ends here, and then
// with which exit code. The environment is there twice, to be asked for a variable and as
// os.Environ lists it, for what looks like a setting and is none.
func Prepare(p Program, args []string, environ func(string) (string, bool), environment []string, stdout, stderr io.Writer) (int, bool) {
	list, err := describe(p.Name, p.Description, p.Config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailure, false
	}
	switch {
	case slices.Contains(args, "--help"), slices.Contains(args, "-h"):
		writeHelp(stdout, p, list)
		return exitOK, false
	case slices.Contains(args, "--version"):
		fmt.Fprintln(stdout, p.Name, buildinfo.Get())
		return exitOK, false
	}
	rest := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "--print-config" })
	r := newReader(p.Name, list)
	r.readArgs(rest)
	r.readEnvironment(environ)
	for _, line := range r.strays(p.Name, names(environment)) {
		fmt.Fprintln(stderr, line)
	}
	if err := r.finish(p.Config); err != nil {
		fmt.Fprintln(stderr, err)
		return exitSettings, false
	}
	for _, s := range exposed(list, rest) {
		fmt.Fprintf(stderr, "%s: %s was given as a flag, which every user of this machine can read: give it as %s_FILE or in the environment\n",
			p.Name, s.title(), s.env)
	}
	for _, line := range r.oddities(p.Name) {
		fmt.Fprintln(stderr, line)
	}
	if len(rest) < len(args) {
		writeConfig(stdout, list)
		return exitOK, false
	}
	return exitOK, true
}
