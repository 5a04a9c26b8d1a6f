package gatewayctl

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// deadLetter is a stored one; Number is where it stands among them.
type deadLetter struct {
	Number uint64 `json:"number"`
	eventlog.DeadLetterRecord
}

// whole returns the event as it was published, or why that is not known.
func (d deadLetter) whole() ([]byte, error) {
	body := d.BodyBase64
	if d.Body != "" {
		body = []byte(d.Body)
	}
	sum := sha256.Sum256(body)
	if len(body) != d.BodyBytes || hex.EncodeToString(sum[:]) != d.BodySHA256 {
		return nil, fmt.Errorf("only the first %d of %d bytes are kept", len(body), d.BodyBytes)
	}
	return body, nil
}

// addressed returns the event as it is to be published. The orchestrator that stands in
// one of unresolved_daemon may be the id of a channel: under that it would be in the log,
// and nobody's.
func (d deadLetter) addressed(to protocol.OrchestratorID) ([]byte, error) {
	body, err := d.whole()
	if err != nil || d.Reason != event.ReasonUnresolvedDaemon {
		return body, err
	}
	if to == "" {
		return nil, errors.New("no bridge knew whose daemon it is for: say that with --to")
	}
	e, err := event.Parse(body, len(body))
	if err != nil {
		return nil, err
	}
	e.OrchestratorID, e.DaemonID = to, cmp.Or(d.Daemon, e.DaemonID)
	return e.MarshalJSON()
}

// letterSelection says which dead letters are meant.
type letterSelection struct {
	reason, orchestrator string
	olderThan, newerThan time.Duration
	numbers              []uint64
	all                  bool
}

func letterFlags(c *cobra.Command) *letterSelection {
	var s letterSelection
	c.Flags().StringVar(&s.reason, "reason", "", "those with one reason, such as undelivered")
	c.Flags().StringVar(&s.orchestrator, "orchestrator", "", "those of one orchestrator")
	c.Flags().DurationVar(&s.olderThan, "older-than", 0, "those stored longer ago than this")
	c.Flags().DurationVar(&s.newerThan, "newer-than", 0, "those stored since then")
	return &s
}

// named takes the numbers that were given, and refuses an act that names nothing.
func (s *letterSelection) named(args []string) error {
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is no number of a dead letter", arg)}
		}
		s.numbers = append(s.numbers, n)
	}
	if s.reason == "" && s.orchestrator == "" && s.olderThan == 0 && s.newerThan == 0 && len(s.numbers) == 0 && !s.all {
		return usageError{errors.New("say which dead letters, or --all")}
	}
	return nil
}

func (s *letterSelection) subject() string {
	token := event.Token("*")
	if s.orchestrator != "" {
		token = event.TokenOf(protocol.OrchestratorID(s.orchestrator))
	}
	return eventlog.DeadLetterSubjects(event.Reason(cmp.Or(s.reason, "*")), token)
}

func (s *letterSelection) fits(d deadLetter, now time.Time) bool {
	age := now.Sub(d.Time)
	return (s.olderThan == 0 || age > s.olderThan) && (s.newerThan == 0 || age <= s.newerThan) &&
		(len(s.numbers) == 0 || slices.Contains(s.numbers, d.Number))
}

// each calls yield with each dead letter that is meant, in the order in which they
// were stored.
func (s *letterSelection) each(ctx context.Context, js jetstream.JetStream, yield func(deadLetter)) error {
	now := time.Now()
	var wrong error
	err := each(ctx, js, eventlog.DeadletterStream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{s.subject()}},
		func(m jetstream.Msg, at *jetstream.MsgMetadata) {
			d := deadLetter{Number: at.Sequence.Stream}
			if err := json.Unmarshal(m.Data(), &d.DeadLetterRecord); err != nil {
				wrong = errors.Join(wrong, fmt.Errorf("read dead letter %d: %w", d.Number, err))
				return
			}
			if s.fits(d, now) {
				yield(d)
			}
		})
	return errors.Join(err, wrong)
}

func (p *program) deadLettersCommand() *cobra.Command {
	c := &cobra.Command{Use: "dead-letters", Short: "Show, replay or drop what was not delivered"}
	c.AddCommand(p.listLettersCommand(), p.showLetterCommand(), p.replayCommand(), p.dropCommand())
	return c
}

// onStreams runs f with JetStream, for as long as there may be much to read.
func (p *program) onStreams(ctx context.Context, f func(ctx context.Context, client *operation.Client, js jetstream.JetStream) error) error {
	return p.ask(func(client *operation.Client) error {
		js, err := p.jetStream(client, jetstream.WithDefaultTimeout(p.timeout))
		if err != nil {
			return err
		}
		return f(ctx, client, js)
	})
}

func (p *program) listLettersCommand() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List dead letters, the oldest first, without their events", Args: cobra.NoArgs}
	s := letterFlags(c)
	limit := c.Flags().Int("limit", 100, "how many to show")
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) {
			js, err := p.jetStream(client, jetstream.WithDefaultTimeout(p.timeout))
			if err != nil {
				return nil, err
			}
			found := letters{DeadLetters: []deadLetter{}}
			err = s.each(ctx, js, func(d deadLetter) {
				if found.Total++; len(found.DeadLetters) < *limit {
					d.Body, d.BodyBase64 = "", nil
					found.DeadLetters = append(found.DeadLetters, d)
				}
			})
			return found, err
		})
	}
	return c
}

// letters are the first of those that were asked for.
type letters struct {
	Total       int          `json:"total"`
	DeadLetters []deadLetter `json:"deadLetters"`
}

func (l letters) unwell() error { return nil }

func (l letters) print(w io.Writer) {
	now := time.Now()
	row(w, "NUMBER", "AGE", "REASON", "ORCHESTRATOR", "EVENT", "DAEMON", "BYTES", "DETAIL")
	for _, d := range l.DeadLetters {
		row[any](w, d.Number, age(now, d.Time), d.Reason, dash(d.Orchestrator), dash(d.EventID), dash(string(d.Daemon)), d.BodyBytes, dash(d.Detail))
	}
	if len(l.DeadLetters) < l.Total {
		fmt.Fprintf(w, "%d of %d; --limit shows more\n", len(l.DeadLetters), l.Total)
	}
}

func (p *program) showLetterCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show <number>", Short: "Show a dead letter with its event", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s letterSelection
			if err := s.named(args); err != nil {
				return err
			}
			return p.onStreams(cmd.Context(), func(ctx context.Context, _ *operation.Client, js jetstream.JetStream) error {
				stream, err := js.Stream(ctx, eventlog.DeadletterStream)
				if err != nil {
					return fmt.Errorf("stream %s: %w", eventlog.DeadletterStream, err)
				}
				m, err := stream.GetMsg(ctx, s.numbers[0])
				if err != nil {
					return fmt.Errorf("dead letter %d: %w", s.numbers[0], err)
				}
				d := deadLetter{Number: m.Sequence}
				if err := json.Unmarshal(m.Data, &d.DeadLetterRecord); err != nil {
					return fmt.Errorf("read dead letter %d: %w", d.Number, err)
				}
				return p.show(d, d.print)
			})
		},
	}
}

func (d deadLetter) print(w io.Writer) {
	for _, line := range [][2]string{
		{"number", strconv.FormatUint(d.Number, 10)}, {"stored", d.Time.Format(time.RFC3339)}, {"reason", string(d.Reason)},
		{"detail", d.Detail}, {"orchestrator", d.Orchestrator}, {"event", d.EventID}, {"daemon", string(d.Daemon)},
		{"settled by another daemon", yesNo(d.SettledElsewhere)},
	} {
		row(w, line[0]+":", dash(line[1]))
	}
	body, err := d.whole()
	if err != nil {
		fmt.Fprintf(w, "\nThe event cannot be replayed: %v\n", err)
		return
	}
	fmt.Fprintf(w, "\n%s\n", bytes.Map(visible, body))
}

func (p *program) dropCommand() *cobra.Command {
	c := &cobra.Command{Use: "drop [number]...", Short: "Remove dead letters for good"}
	p.onLetters(c, operation.DeadLetterDropped, "Drop", func(ctx context.Context, js jetstream.JetStream, letters []deadLetter) (string, int, error) {
		for i, d := range letters {
			if err := removeLetter(ctx, js, d); err != nil {
				return fmt.Sprintf("%d dropped", i), i, err
			}
		}
		return fmt.Sprintf("%d dropped", len(letters)), len(letters), nil
	})
	return c
}

func (p *program) replayCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "replay [number]...",
		Short: "Publish the events of dead letters again, in the order of the log, and remove those",
		Long: "Publish the events of dead letters again, byte for byte and so under the same ids, and remove the letters. " +
			"Those of an orchestrator keep the order that they had in the log, behind what it holds now. All daemons of the orchestrator get them. " +
			"What the log still knows as a duplicate, within DUPLICATE_WINDOW of its last publish, stays and is told. " +
			"So does an event for a daemon of which no bridge knew whose it is (unresolved_daemon), unless --to says that.",
	}
	p.onLetters(c, operation.DeadLetterReplayed, "Replay", func(ctx context.Context, js jetstream.JetStream, letters []deadLetter) (string, int, error) {
		return replay(ctx, js, letters, protocol.OrchestratorID(to))
	})
	c.Flags().StringVar(&to, "to", "", "whose daemon those of unresolved_daemon are for: an orchestrator")
	return c
}

// onLetters makes a command of what is done to dead letters, after it was confirmed
// and noted.
func (p *program) onLetters(c *cobra.Command, doing, title string, do func(context.Context, jetstream.JetStream, []deadLetter) (string, int, error)) {
	s, a := letterFlags(c), p.actFlags(c)
	c.Flags().BoolVar(&s.all, "all", false, "all dead letters")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(a.check(), s.named(args)); err != nil {
			return err
		}
		return p.onStreams(cmd.Context(), func(ctx context.Context, client *operation.Client, js jetstream.JetStream) error {
			var letters []deadLetter
			if err := s.each(ctx, js, func(d deadLetter) { letters = append(letters, d) }); err != nil {
				return err
			}
			if len(letters) == 0 {
				return errors.New("no dead letters are meant")
			}
			if err := p.confirm(a, "%s %d dead letters", title, len(letters)); err != nil {
				return err
			}
			if err := note(ctx, client, a, doing, fmt.Sprintf("%d dead letters of %s, the first number %d", len(letters), s.subject(), letters[0].Number)); err != nil {
				return err
			}
			told, count, err := do(ctx, js, letters)
			return errors.Join(p.showDone(done{Done: told, Count: count}), err)
		})
	}
}

func removeLetter(ctx context.Context, js jetstream.JetStream, d deadLetter) error {
	stream, err := js.Stream(ctx, eventlog.DeadletterStream)
	if err == nil {
		err = stream.DeleteMsg(ctx, d.Number)
	}
	if err != nil {
		return fmt.Errorf("remove dead letter %d: %w", d.Number, err)
	}
	return nil
}

// byLog is the order of the log within each orchestrator. What never stood there
// comes after what did, as it was stored.
func byLog(a, b deadLetter) int {
	inLog := func(d deadLetter) int {
		if d.Sequence > 0 {
			return 0
		}
		return 1
	}
	epochs := 0
	if a.Epoch != b.Epoch {
		epochs = -1
		if a.Epoch.Newer(b.Epoch) {
			epochs = 1
		}
	}
	return cmp.Or(cmp.Compare(a.Orchestrator, b.Orchestrator), cmp.Compare(inLog(a), inLog(b)), epochs,
		cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Number, b.Number))
}

// replay publishes events again, those that nobody knew an orchestrator for to one that
// is given. Where one of an orchestrator fails, those behind it wait, so that the order
// stays.
func replay(ctx context.Context, js jetstream.JetStream, letters []deadLetter, to protocol.OrchestratorID) (string, int, error) {
	slices.SortFunc(letters, byLog)
	into, err := newPublisher(js)
	if err != nil {
		return "", 0, err
	}
	var problems []error
	published := map[[3]string]bool{} // by orchestrator and event: several daemons may not have had it
	stopped := map[string]bool{}      // orchestrators
	for _, d := range letters {
		id := [3]string{d.Orchestrator, d.EventID}
		if d.Reason == event.ReasonUnresolvedDaemon {
			id[2] = string(d.Daemon) // one that is for another daemon is another event
		}
		if stopped[d.Orchestrator] {
			continue
		}
		if !published[id] {
			err := replayOne(ctx, into, d, to)
			var invalid *event.InvalidError
			if err != nil {
				problems = append(problems, fmt.Errorf("dead letter %d stays: %w", d.Number, err))
				stopped[d.Orchestrator] = !errors.As(err, &invalid) && !errors.Is(err, errNotReplayable)
				continue
			}
			published[id] = true
		}
		if err := removeLetter(ctx, js, d); err != nil {
			problems = append(problems, err)
		}
	}
	return fmt.Sprintf("%d events published again", len(published)), len(published), errors.Join(problems...)
}

// errNotReplayable says that an event can never be published again.
var errNotReplayable = errors.New("it cannot be replayed")

func replayOne(ctx context.Context, into *publisher.Publisher, d deadLetter, to protocol.OrchestratorID) error {
	body, err := d.addressed(to)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReplayable, err)
	}
	ack, err := into.PublishJSON(ctx, body)
	if err != nil {
		return err
	}
	if ack.Duplicate {
		return errors.New("the log knows its id from less than DUPLICATE_WINDOW ago: replay it later")
	}
	return nil
}
