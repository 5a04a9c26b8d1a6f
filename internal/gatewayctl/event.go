package gatewayctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// eventWay is what became of an event.
type eventWay struct {
	Event        string `json:"event"`
	Orchestrator string `json:"orchestrator,omitempty"`
	// Outcome says it in a sentence.
	Outcome   string          `json:"outcome"`
	Partition event.Partition `json:"partition"`
	Epoch     eventlog.Epoch  `json:"epoch,omitempty"`
	// Stored is where the log holds it: once, but for ids that were used again.
	Stored []storedEvent `json:"stored"`
	// Waits is since when it waits for its addressee to be known.
	Waits       time.Time     `json:"waits,omitzero"`
	DeadLetters []deadLetter  `json:"deadLetters"`
	Routers     []partition   `json:"routers"`
	Daemons     []eventDaemon `json:"daemons"`
	// Hops are those that nodes have noted.
	Hops []trace.Hop `json:"hops"`
	// Problems are what could not be found out.
	Problems []string           `json:"problems"`
	Silent   []operation.Member `json:"silent"`
}

// storedEvent is one that stands in the log.
type storedEvent struct {
	Sequence    uint64    `json:"sequence"`
	Stored      time.Time `json:"stored"`
	Bytes       int       `json:"bytes"`
	Type        string    `json:"type,omitempty"`
	RequiresAck bool      `json:"requiresAck"`
	Daemon      string    `json:"daemon,omitempty"`
	// Problem says why it is no event that is delivered.
	Problem string `json:"problem,omitempty"`

	published trace.Hop
}

// eventDaemon is where a daemon stands with an event.
type eventDaemon struct {
	Daemon    string `json:"daemon"`
	Connected string `json:"connected,omitempty"`
	Settled   bool   `json:"settled"`
	// Held is what edges have of it for that daemon.
	Held []heldEvent `json:"held,omitempty"`
	// Words say all of that.
	Words string `json:"words"`
}

// heldEvent is an event in the hands of an edge.
type heldEvent struct {
	Edge    string `json:"edge"`
	Session string `json:"session"`
	operation.HeldEvent
}

func (p *program) eventCommand() *cobra.Command {
	var orchestrator string
	c := &cobra.Command{
		Use:   "event <id>",
		Short: "Say what became of an event",
		Long: "Say what became of an event: whether it is in the log, in the dead letters or waits for its addressee; where each daemon stands " +
			"with it; which hops nodes have noted. Without --orchestrator it is looked for among these hops, and then in the whole log and all dead letters.",
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&orchestrator, "orchestrator", "", "whose it is")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return p.onStreams(cmd.Context(), func(ctx context.Context, client *operation.Client, js jetstream.JetStream) error {
			ctx, cancel := context.WithTimeout(ctx, searchTimeouts*p.timeout)
			defer cancel()
			s := &eventSearch{client: client, js: js, timeout: p.timeout, now: time.Now()}
			s.way.Event, s.way.Orchestrator = args[0], orchestrator
			if err := s.run(ctx); err != nil {
				return err
			}
			if err := p.show(s.way, s.way.print); err != nil {
				return err
			}
			if len(s.way.Silent)+len(s.way.Problems) > 0 {
				return errUnwell
			}
			return nil
		})
	}
	return c
}

// searchTimeouts are how many times --timeout a search takes at most.
const searchTimeouts = 6

// eventSearch finds out what became of an event. What cannot be asked is noted among
// the problems, and the rest is found all the same.
type eventSearch struct {
	client  *operation.Client
	js      jetstream.JetStream
	timeout time.Duration
	now     time.Time
	epochs  []eventlog.Epoch
	hops    trace.Hops
	noted   uint64 // where it stands as hops say, which may be known longer than it stands there
	way     eventWay
}

// note runs a part of the search, within --timeout.
func (s *eventSearch) note(ctx context.Context, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := f(ctx); err != nil {
		s.way.Problems = append(s.way.Problems, err.Error())
	}
}

func (s *eventSearch) run(ctx context.Context) error {
	w := &s.way
	w.Stored, w.DeadLetters, w.Routers, w.Daemons = []storedEvent{}, []deadLetter{}, []partition{}, []eventDaemon{}
	w.Hops, w.Problems, w.Silent = []trace.Hop{}, []string{}, []operation.Member{}
	s.note(ctx, func(ctx context.Context) (err error) {
		if s.epochs, err = eventlog.Epochs(ctx, s.js); err != nil {
			err = fmt.Errorf("read the log's state: %w", err)
		}
		return err
	})
	if w.Orchestrator == "" {
		if err := s.findOrchestrator(ctx); err != nil {
			return err
		}
	}
	if w.Orchestrator != "" {
		s.findAll(ctx)
	}
	w.Outcome = w.inWords()
	if w.Orchestrator == "" && len(w.Problems) == 0 {
		return fmt.Errorf("no event %s is in the log, in the dead letters or among the hops of the last day", w.Event)
	}
	return nil
}

func (s *eventSearch) findAll(ctx context.Context) {
	w := &s.way
	token := event.TokenOf(protocol.OrchestratorID(w.Orchestrator))
	if len(s.epochs) > 0 {
		w.Partition = event.PartitionOf(token, len(s.epochs))
		w.Epoch = s.epochs[w.Partition]
	}
	s.note(ctx, func(ctx context.Context) error { return s.readHops(ctx, token) })
	s.note(ctx, func(ctx context.Context) error { return s.readLetters(ctx) })
	s.note(ctx, func(ctx context.Context) error { return s.readUnresolved(ctx, token) })
	if len(s.epochs) > 0 {
		s.note(ctx, func(ctx context.Context) error { return s.readStored(ctx, token) })
		s.note(ctx, func(ctx context.Context) error { return s.askRouters(ctx) })
		held := map[protocol.DaemonID][]heldEvent{}
		s.note(ctx, func(ctx context.Context) error { return s.askEdges(ctx, held) })
		s.note(ctx, func(ctx context.Context) error { return s.readCursors(ctx, token, held) })
	}
	for _, e := range w.Stored {
		hops := []trace.Hop{{At: e.Stored, Step: trace.Stored, Tier: trace.TierLog}}
		if e.published.Step != "" {
			hops = append(hops, e.published)
		}
		s.hops.Add(trace.Record{Event: w.Event, Hops: hops})
	}
	w.Hops = orNone(s.hops.Sorted())
}

// inWords says what became of it.
func (w *eventWay) inWords() string {
	var words []string
	switch {
	case len(w.Stored) > 0:
		words = append(words, fmt.Sprintf("It is in the log, stored %s ago%s.", age(time.Now(), w.Stored[len(w.Stored)-1].Stored), w.settledInWords()))
	case !w.Waits.IsZero():
		words = append(words, fmt.Sprintf("Nobody knows its addressee; it has waited for %s.", age(time.Now(), w.Waits)))
	case len(w.Hops) > 0:
		words = append(words, "It is not in the log any more: newer events or its age have removed it, or it was refused.")
	case len(w.DeadLetters) == 0 && len(w.Problems) == 0:
		words = append(words, "The log does not hold it, and nobody has noted it: it was never published, or was removed more than a day ago.")
	case len(w.DeadLetters) == 0:
		words = append(words, "It was not found, but not everything could be looked at.")
	}
	for _, d := range w.DeadLetters {
		words = append(words, strings.TrimSpace(fmt.Sprintf("It is dead letter %d (%s%s): %s.", d.Number, d.Reason, ofDaemon(string(d.Daemon)), d.Detail)))
	}
	return strings.Join(words, " ")
}

func ofDaemon(id string) string {
	if id == "" {
		return ""
	}
	return ", daemon " + id
}

// settledInWords says for how many daemons it is settled.
func (w *eventWay) settledInWords() string {
	settled := 0
	for _, d := range w.Daemons {
		if d.Settled {
			settled++
		}
	}
	switch n := len(w.Daemons); {
	case n == 0:
		return ""
	case settled == n && n == 1:
		return ", and settled for its daemon"
	case settled == n:
		return fmt.Sprintf(", and settled for all %d daemons", n)
	default:
		return fmt.Sprintf(", and settled for %d of %d daemons", settled, n)
	}
}

func (w *eventWay) print(out io.Writer) {
	fmt.Fprintf(out, "Event %s", w.Event)
	if w.Orchestrator != "" {
		fmt.Fprintf(out, " of orchestrator %s", w.Orchestrator)
	}
	fmt.Fprintf(out, "\n%s\n", w.Outcome)
	for _, e := range w.Stored {
		fmt.Fprintln(out, e.inWords(w.Partition))
	}
	for _, r := range w.Routers {
		fmt.Fprintf(out, "Router %s serves partition %d (%s), and has looked up to %d.\n", r.Node, r.ID, r.state(), r.Position)
	}
	if len(w.Daemons) > 0 {
		fmt.Fprintln(out, "\nDaemons:")
	}
	for _, d := range w.Daemons {
		fmt.Fprintf(out, "- %s: %s\n", d.Daemon, d.Words)
	}
	if len(w.Hops) > 0 {
		fmt.Fprintln(out, "\nHops:")
		printHops(out, w.Hops)
	}
	for _, problem := range w.Problems {
		fmt.Fprintf(out, "Not known: %s\n", problem)
	}
	silent(out, w.Silent)
}

func (e storedEvent) inWords(p event.Partition) string {
	words := []string{fmt.Sprintf("partition %d, sequence %d", p, e.Sequence), e.Stored.UTC().Format(time.RFC3339Nano), fmt.Sprintf("%d bytes", e.Bytes)}
	if e.Type != "" {
		words = append(words, e.Type)
	}
	if e.RequiresAck {
		words = append(words, "to be acknowledged")
	}
	if e.Daemon != "" {
		words = append(words, "for daemon "+e.Daemon)
	}
	if e.Problem != "" {
		words = append(words, e.Problem)
	}
	return "Stored: " + strings.Join(words, ", ")
}

// printHops prints hops in their order, each with the time since the one before.
func printHops(w io.Writer, hops []trace.Hop) {
	for i, h := range hops {
		since := ""
		if i > 0 {
			since = "+" + h.At.Sub(hops[i-1].At).Round(10*time.Microsecond).String()
		}
		row(w, h.At.UTC().Format("2006-01-02 15:04:05.000000"), since, strings.TrimSpace(h.Tier+" "+h.Node), hopInWords(h))
	}
}

// hopInWords says what a hop was.
func hopInWords(h trace.Hop) string {
	words := string(h.Step)
	if h.Edge != "" {
		words += " to " + h.Edge
	}
	if h.Daemon != "" {
		words += ", daemon " + h.Daemon
	}
	if h.Detail != "" {
		words += ": " + h.Detail
	}
	return words
}

// errSeveral: the id alone does not say which event is meant.
func errSeveral(id string, orchestrators []string) error {
	return usageError{errors.New("event " + id + " is of several orchestrators, say which with --orchestrator: " + strings.Join(orchestrators, ", "))}
}
