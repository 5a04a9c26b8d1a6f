package gatewayctl

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/revocation"
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

// errUnconfirmed says that whoever was asked did not say yes.
var errUnconfirmed = errors.New("not confirmed, nothing was done; --yes confirms")

// act is what a command that changes something is given.
type act struct {
	operation.Act
	yes bool
}

// actFlags adds the flags of a command that changes something.
func (p *program) actFlags(c *cobra.Command) *act {
	var a act
	c.Flags().StringVar(&a.By, "by", p.user(), "who wants it, for the audit log")
	c.Flags().Lookup("by").DefValue = "you@your-host" // help and its page are the same on all machines
	c.Flags().StringVar(&a.Because, "because", "", "why, for the audit log (required)")
	c.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask whether it is meant")
	return &a
}

// user is who calls, as far as the environment says.
func (p *program) user() string {
	name, _ := p.environ("USER")
	host, _ := os.Hostname()
	return strings.Trim(name+"@"+host, "@")
}

// check refuses an act without a reason.
func (a *act) check() error {
	if err := a.Check(); err != nil {
		return usageError{fmt.Errorf("%w: give --because, and --by where it is not known", err)}
	}
	return nil
}

// confirm asks whether something is meant.
func (p *program) confirm(a *act, format string, args ...any) error {
	if a.yes {
		return nil
	}
	fmt.Fprintf(p.err, format+"? [y/N] ", args...)
	answer, err := bufio.NewReader(p.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errUnconfirmed
}

// note has an edge write down what is about to be done without any node.
func note(ctx context.Context, client *operation.Client, a *act, done, of string) error {
	_, err := client.AskOne(ctx, operation.Note, operation.NoteRequest{Act: a.Act, Done: done, Of: of}, operation.Edge)
	if err != nil {
		return fmt.Errorf("nothing was done, since no edge could write it into its audit log: %w", err)
	}
	return nil
}

// done is the result of an act.
type done struct {
	Done   string             `json:"done"`
	Count  int                `json:"count"`
	Silent []operation.Member `json:"silent"`
}

func (p *program) showDone(d done) error {
	d.Silent = orNone(d.Silent)
	err := p.show(d, func(w io.Writer) {
		fmt.Fprintln(w, d.Done)
		silent(w, d.Silent)
	})
	if err == nil && len(d.Silent) > 0 {
		err = errUnwell
	}
	return err
}

func (p *program) disconnectCommand() *cobra.Command {
	var r operation.DisconnectRequest
	c := &cobra.Command{
		Use:   "disconnect",
		Short: "End connections; daemons come back unless they are revoked",
		Args:  cobra.NoArgs,
	}
	a := p.actFlags(c)
	selectionFlags(c, &r.Selection)
	c.Flags().BoolVar(&r.All, "all", false, "all connections of all edges")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.check(); err != nil {
			return err
		}
		if r.Empty() != r.All {
			return usageError{errors.New("say whom to disconnect, or --all")}
		}
		r.Act = a.Act
		return p.ask(func(client *operation.Client) error { return p.disconnect(cmd.Context(), client, a, r) })
	}
	return c
}

func (p *program) disconnect(ctx context.Context, client *operation.Client, a *act, r operation.DisconnectRequest) error {
	found, err := askConnections(ctx, client, operation.ConnectionsRequest{Selection: r.Selection})
	if err != nil {
		return err
	}
	if err := p.confirm(a, "Disconnect %d connections", found.Total); err != nil {
		return err
	}
	answers, err := client.Ask(ctx, operation.Disconnect, r, operation.Edge)
	if err != nil {
		return err
	}
	ended := 0
	err = operation.Each(answers, func(_ operation.Member, report operation.DisconnectReport) { ended += report.Ended })
	if err != nil {
		return err
	}
	return p.showDone(done{fmt.Sprintf("%d connections ended", ended), ended, answers.Silent})
}

func (p *program) drainCommand() *cobra.Command {
	var alone bool
	c := p.drainOrUndrain("drain", operation.Drain, &alone)
	c.Short = "Have an edge take no connections, and send those away that it has"
	c.Long = "Have an edge take no connections, and send those away that it has, over its DRAIN_PERIOD. /readyz says so, and the edge stays as it is until undrain, or its restart."
	c.Flags().BoolVar(&alone, "alone", false, "also where no other edge takes connections")
	return c
}

func (p *program) undrainCommand() *cobra.Command {
	c := p.drainOrUndrain("undrain", operation.Undrain, new(bool))
	c.Short = "Have an edge that was drained take connections again"
	return c
}

func (p *program) drainOrUndrain(name string, verb operation.Verb, alone *bool) *cobra.Command {
	c := &cobra.Command{Use: name + " <edge>", Args: cobra.ExactArgs(1)}
	a := p.actFlags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.check(); err != nil {
			return err
		}
		if err := p.confirm(a, "%s edge %s", name, args[0]); err != nil {
			return err
		}
		r := operation.DrainRequest{Edge: args[0], Act: a.Act, Alone: *alone}
		return p.ask(func(client *operation.Client) error {
			answers, err := client.Ask(cmd.Context(), verb, r, operation.Edge)
			if err != nil {
				return err
			}
			heeded := false
			var held int
			err = operation.Each(answers, func(_ operation.Member, report operation.DrainReport) {
				if report.Heeded {
					heeded, held = true, report.Connections
				}
			})
			if err != nil {
				return err
			}
			if !heeded {
				return fmt.Errorf("no edge named %s has answered", args[0])
			}
			return p.showDone(done{Done: fmt.Sprintf("%sed %s, which holds %d connections", name, args[0], held), Count: held})
		})
	}
	return c
}

var revocable = []string{string(revocation.Token), string(revocation.Daemon), string(revocation.Orchestrator)}

func (p *program) revokeCommand() *cobra.Command {
	var lasts time.Duration
	c := &cobra.Command{
		Use:   "revoke {token|daemon|orchestrator} <id>",
		Short: "Refuse a token (its jti), a daemon or an orchestrator, and end its connections",
		Args:  cobra.ExactArgs(2), ValidArgs: revocable,
	}
	a := p.actFlags(c)
	c.Flags().DurationVar(&lasts, "for", 24*time.Hour, "for how long, at least as long as its tokens live; 720h at most")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if lasts <= 0 || lasts > revocation.Lifetime {
			return usageError{fmt.Errorf("--for %s: expected up to %s", lasts, revocation.Lifetime)}
		}
		return p.revocation(cmd.Context(), a, args, operation.Revoked, func(ctx context.Context, bucket jetstream.KeyValue, key string) (string, error) {
			until := time.Now().Add(lasts)
			_, err := bucket.Put(ctx, key, revocation.Entry{Until: until, By: a.By, Reason: a.Because}.Encode())
			return "revoked until " + until.Format(time.RFC3339), err
		})
	}
	return c
}

func (p *program) unrevokeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "unrevoke {token|daemon|orchestrator} <id>",
		Short: "Allow again what was revoked; what is in Neolith's set in Redis, bridges revoke again",
		Args:  cobra.ExactArgs(2), ValidArgs: revocable,
	}
	a := p.actFlags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return p.revocation(cmd.Context(), a, args, operation.Unrevoked, func(ctx context.Context, bucket jetstream.KeyValue, key string) (string, error) {
			if _, err := bucket.Get(ctx, key); err != nil {
				return "", err
			}
			return "allowed again", bucket.Delete(ctx, key)
		})
	}
	return c
}

// revocation changes the bucket of what is revoked, after it was confirmed and noted.
func (p *program) revocation(ctx context.Context, a *act, args []string, doing string, change func(context.Context, jetstream.KeyValue, string) (string, error)) error {
	if err := a.check(); err != nil {
		return err
	}
	kind := revocation.Kind(args[0])
	if !strings.Contains(" "+strings.Join(revocable, " ")+" ", " "+args[0]+" ") || args[1] == "" {
		return usageError{fmt.Errorf("%q: expected %s, and an id", cmp.Or(args[0], args[1]), strings.Join(revocable, ", "))}
	}
	of := args[0] + " " + args[1]
	if err := p.confirm(a, "%s %s", doing, of); err != nil {
		return err
	}
	return p.ask(func(client *operation.Client) error {
		ctx, cancel := context.WithTimeout(ctx, 2*p.timeout)
		defer cancel()
		js, err := p.jetStream(client)
		if err != nil {
			return err
		}
		bucket, err := js.KeyValue(ctx, revocation.Bucket)
		if err != nil {
			return fmt.Errorf("bucket %s: %w", revocation.Bucket, err)
		}
		if err := note(ctx, client, a, doing, of); err != nil {
			return err
		}
		told, err := change(ctx, bucket, string(revocation.KeyOf(kind, args[1])))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("%s is not revoked", of)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", doing, of, err)
		}
		return p.showDone(done{Done: of + " " + told, Count: 1})
	})
}
