// Package gatewayctl is the program of operators: it asks the nodes of a running
// gateway (package operation) and what stands in its streams and buckets, and acts
// on both. A file is a group of commands.
package gatewayctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // the command could not do what it was to do
	exitUsage   = 2 // it was called wrongly
	exitUnwell  = 3 // it did, and found that something is not well, or somebody did not answer
)

// errFound is not told either: doctor has printed what it found.
var errFound = errors.New("something is to be mended")

// errUnwell is not told: what the command has printed says it.
var errUnwell = errors.New("not all is well")

// program is one call of gatewayctl.
type program struct {
	environ     func(string) (string, bool)
	environment []string // all of it as os.Environ lists it, for what looks like a setting; nil: not looked at
	in          io.Reader
	out, err    io.Writer

	format  string        // of the output: one of formats
	timeout time.Duration // for what is asked of NATS
	context string        // the named cluster that is meant, "" where nobody says
	// contextless is whether the current context does not count, see calledAs.
	contextless bool
	flags       []string // of natsFlags, that were given, as arguments for package settings
	began       bool     // the command's arguments were right

	nats natsconn.Config // as NATS was reached last
}

// Main runs the program with these arguments, of which the first is the name that it was
// called by, and returns its exit code.
func Main(args, environment []string, in io.Reader, out, err io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills the process
	p := &program{environ: os.LookupEnv, environment: environment, in: in, out: out, err: err}
	return p.run(ctx, p.calledAs(filepath.Base(args[0]), args[1:]))
}

// Run is Main without signals, by the program's own name.
func Run(ctx context.Context, args []string, environ func(string) (string, bool), in io.Reader, out, err io.Writer) int {
	p := &program{environ: environ, in: in, out: out, err: err}
	return p.run(ctx, args)
}

func (p *program) run(ctx context.Context, args []string) int {
	root := p.command()
	root.SetArgs(args)
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	var wrong *settings.Error
	var usage usageError
	var code told
	switch failure := root.ExecuteContext(ctx); {
	case failure == nil:
		return exitOK
	case errors.As(failure, &code):
		return int(code)
	case errors.Is(failure, errUnwell):
		return exitUnwell
	case errors.Is(failure, errFound):
		return exitFailure
	case errors.As(failure, &wrong), errors.As(failure, &usage), !p.began:
		fmt.Fprintf(printed{p.err}, "gatewayctl: %v\n", failure)
		return exitUsage
	default:
		fmt.Fprintf(printed{p.err}, "gatewayctl: %v\n", failure)
		return exitFailure
	}
}

// Command returns the program's commands, for its documentation.
func Command() *cobra.Command {
	p := &program{environ: os.LookupEnv, in: os.Stdin, out: os.Stdout, err: os.Stderr}
	return p.command()
}

const domainSetting = "NATS_JETSTREAM_DOMAIN"

// natsFlags are the settings of package natsconn that a flag may give, too.
var natsFlags = []struct{ name, setting, help string }{
	{"nats-url", "NATS_URL", "URLs of the NATS servers, separated by commas or each with a flag (NATS_URL)"},
	{"nats-url-file", "NATS_URL_FILE", "file that holds them, one a line, for URLs with a password (NATS_URL_FILE)"},
	{"nats-creds-file", "NATS_CREDS_FILE", "file with the credentials of the operator's NATS user (NATS_CREDS_FILE)"},
	{"nats-nkey-file", "NATS_NKEY_FILE", "file with the seed of that user, where the server knows users by nkeys (NATS_NKEY_FILE)"},
	{"nats-tls-ca", "NATS_TLS_CA", "file with the authorities that may sign a server's certificate (NATS_TLS_CA)"},
	{"nats-tls-cert", "NATS_TLS_CERT", "file with a client certificate (NATS_TLS_CERT)"},
	{"nats-tls-key", "NATS_TLS_KEY", "file with the key of the client certificate (NATS_TLS_KEY)"},
	{"nats-jetstream-domain", domainSetting, "domain of the JetStream with the gateway's streams, where the servers are leaf nodes of it (NATS_JETSTREAM_DOMAIN)"},
	{"nats-tls-first", "NATS_TLS_FIRST", "true, where the server wants TLS before it says anything (NATS_TLS_FIRST)"},
}

// natsFlag is what was given for one of natsFlags. Several values of --nats-url are
// several servers; of any other flag all but one would count for nothing, in silence.
type natsFlag struct {
	several, given bool
	value          string
}

func (f *natsFlag) Set(value string) error {
	switch {
	case !f.given:
		f.value, f.given = value, true
	case f.several:
		f.value += "," + value
	default:
		return errors.New("it is given twice, and one of the two would not count")
	}
	return nil
}

func (f *natsFlag) String() string { return f.value }
func (f *natsFlag) Type() string   { return "string" }

func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "gatewayctl",
		Short:         "See and steer a running Daemon Gateway",
		Long:          "See and steer a running Daemon Gateway. It needs NATS, as the user operator, and nothing else: each node answers for itself. Backups and probes have settings of their own.",
		Version:       buildinfo.Get().String(),
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if p.format != formatTable && p.format != formatJSON {
				return fmt.Errorf("--output %s: expected %s or %s", p.format, formatTable, formatJSON)
			}
			for _, f := range natsFlags {
				if given := cmd.Flags().Lookup(f.name); given != nil && given.Changed {
					p.flags = append(p.flags, "--"+f.name+"="+given.Value.String())
				}
			}
			p.began = true
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&p.format, "output", "o", formatTable, "form of the output: table or json")
	flags.DurationVar(&p.timeout, "timeout", 5*time.Second, "how long to wait for answers")
	flags.StringVar(&p.context, "context", "", "the named cluster that is meant (gatewayctl context)")
	_ = root.RegisterFlagCompletionFunc("context", p.completeContexts) // fails for a flag that is not there
	for _, f := range natsFlags {
		flags.Var(&natsFlag{several: f.setting == "NATS_URL"}, f.name, f.help)
	}
	root.AddCommand(p.statusCommand(), p.nodesCommand(), p.partitionsCommand(), p.connectionsCommand(), p.orchestratorCommand(),
		p.eventCommand(), p.traceCommand(),
		p.disconnectCommand(), p.revokeCommand(), p.unrevokeCommand(), p.drainCommand(), p.undrainCommand(),
		p.deadLettersCommand(), p.publishCommand(), p.tokenCommand(), p.connectCommand(),
		p.logLevelCommand(), p.refusalsCommand(), p.balanceCommand(), p.contextCommand(), p.doctorCommand(), p.bundleCommand(), p.topCommand(), p.idleCommand())
	for _, j := range []job{backupJob(), restoreJob(), probeJob()} {
		root.AddCommand(p.jobCommand(j, root))
	}
	helpful(root)
	return root
}

// ask connects for as long as f takes.
func (p *program) ask(f func(*operation.Client) error) error {
	client, closeClient, err := p.connect()
	if err != nil {
		return err
	}
	defer closeClient()
	return f(client)
}

// connect connects to NATS as the operator.
func (p *program) connect() (*operation.Client, func(), error) {
	var cfg natsconn.Config
	environ, err := p.reach()
	if err != nil {
		return nil, nil, err
	}
	if err := settings.Parse("gatewayctl", "", &cfg, p.flags, environ); err != nil {
		return nil, nil, err
	}
	// A node's environment may have that node's; answers come here.
	cfg.NATSInboxPrefix = operation.InboxPrefix
	p.nats = cfg
	nc, err := natsconn.Dial(cfg, "gatewayctl", p.timeout)
	if err != nil {
		return nil, nil, err
	}
	return &operation.Client{NC: nc, Timeout: p.timeout}, nc.Close, nil
}

// jetStream is what holds the streams, at a client of connect.
func (p *program) jetStream(client *operation.Client, options ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	return p.nats.JetStream(client.NC, options...)
}
