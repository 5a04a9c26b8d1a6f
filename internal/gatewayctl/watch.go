package gatewayctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// finding is a result that is printed, and may say that not all is well.
type finding interface {
	print(w io.Writer)
	unwell() error
}

// find asks for a finding.
type find func(context.Context, *operation.Client) (finding, error)

// leastPause keeps a watch from being a load.
const leastPause = 500 * time.Millisecond

// watchable gives a command the flags --watch and --every, and returns what shows
// its finding, once or again and again.
func (p *program) watchable(c *cobra.Command) func(context.Context, find) error {
	watch := c.Flags().BoolP("watch", "w", false, "show it again and again, until Ctrl-C")
	every := c.Flags().Duration("every", 2*time.Second, "how often, with --watch")
	return func(ctx context.Context, f find) error {
		if *watch && *every < leastPause {
			return usageError{fmt.Errorf("--every %s: expected at least %s", *every, leastPause)}
		}
		return p.ask(func(client *operation.Client) error {
			if *watch {
				return p.watch(ctx, client, f, *every)
			}
			found, err := f(ctx, client)
			if err != nil {
				return err
			}
			if err := p.show(found, found.print); err != nil {
				return err
			}
			return found.unwell()
		})
	}
}

// clearScreen empties the screen of a terminal.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

// watch shows a finding until ctx ends. What fails is told, and tried again: who
// watches wants to see it come back.
func (p *program) watch(ctx context.Context, client *operation.Client, f find, every time.Duration) error {
	for {
		var screen bytes.Buffer
		if terminal(p.out) && p.format == formatTable {
			fmt.Fprintf(&screen, "%s%s, every %s, until Ctrl-C\n\n", clearScreen, time.Now().Format(time.TimeOnly), every)
		}
		found, err := f(ctx, client)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			fmt.Fprintf(p.err, "gatewayctl: %v\n", err)
		default:
			err = p.render(&screen, found, found.print)
		}
		if p.format == formatTable && !terminal(p.out) {
			fmt.Fprintln(&screen) // between two tables
		}
		if _, wrong := p.out.Write(screen.Bytes()); wrong != nil {
			return errors.Join(err, wrong)
		}
		if !lifecycle.Sleep(ctx, every) {
			return nil
		}
	}
}

// terminal reports whether what is written is seen at once.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// silence is errUnwell where somebody known did not answer.
func silence(members []operation.Member) error {
	if len(members) > 0 {
		return errUnwell
	}
	return nil
}
