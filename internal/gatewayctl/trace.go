package gatewayctl

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// traceLease is for how long nodes tell; they are asked again every traceRenewal,
	// so that those that start meanwhile tell as well, and all end soon after this
	// program has gone.
	traceLease, traceRenewal = 10 * time.Second, 3 * time.Second
	// newsRoom is what may wait to be printed, and seenHops how many are remembered so
	// that none is printed twice.
	newsRoom, seenHops = 4096, 8192
)

func (p *program) traceCommand() *cobra.Command {
	var orchestrator string
	var lasts time.Duration
	c := &cobra.Command{
		Use:   "trace",
		Short: "Show live what happens to an orchestrator's events and connections",
		Long: "Show live what happens to an orchestrator's events and connections, as bridges, routers and edges tell it. " +
			"They begin when they are asked, and end by themselves soon after nobody asks any more. " +
			"What is too much, over 500 records a second of one node, is left out and counted.",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&orchestrator, "orchestrator", "", "whose (required)")
	c.Flags().DurationVar(&lasts, "for", 30*time.Second, "how long; 0: until Ctrl-C")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := protocol.OrchestratorID(orchestrator).Validate(); err != nil {
			return usageError{fmt.Errorf("--orchestrator: %w", err)}
		}
		return p.ask(func(client *operation.Client) error {
			ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
			if lasts > 0 {
				ctx, cancel = context.WithTimeout(ctx, lasts)
			}
			defer cancel()
			t := &tracing{program: p, client: client, request: operation.TraceRequest{
				Orchestrator: orchestrator, Watch: rand.Text(), For: traceLease,
			}}
			return t.run(ctx)
		})
	}
	return c
}

// tracing is one call of trace.
type tracing struct {
	*program
	client  *operation.Client
	request operation.TraceRequest
	hops    trace.Hops
	asked   bool // and told whom
	known   []operation.Member
	silent  []operation.Member
}

// asking is what came of asking the nodes.
type asking struct {
	answers operation.Answers
	err     error
}

func (t *tracing) run(ctx context.Context) error {
	news := make(chan *nats.Msg, newsRoom)
	sub, err := t.client.NC.ChanSubscribe(operation.TraceSubject(t.request.Watch), news)
	if err == nil {
		err = t.client.NC.FlushTimeout(t.timeout)
	}
	if err != nil {
		return fmt.Errorf("subscribe to what nodes tell: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	defer t.end()
	asked := make(chan asking, 1)
	ask := func() {
		go func() {
			answers, err := t.client.Ask(ctx, operation.Trace, t.request, operation.Tiers...)
			asked <- asking{answers, err}
		}()
	}
	ask()
	asks := 1
	defer func() { // whoever asks is waited for
		for ; asks > 0; asks-- {
			<-asked
		}
	}()
	ticker := time.NewTicker(traceRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return t.ended(news, sub)
		case m := <-news:
			if err := t.tell(m); err != nil {
				return err
			}
		case a := <-asked:
			asks--
			if err := t.answered(ctx, a); err != nil {
				return err
			}
		case <-ticker.C:
			if asks == 0 {
				asks++
				ask()
			}
		}
	}
}

// answered tells who tells, each time that this is somebody else.
func (t *tracing) answered(ctx context.Context, a asking) error {
	if a.err == nil {
		a.err = operation.Each(a.answers, func(operation.Member, struct{}) {})
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case a.err != nil && !t.asked:
		return a.err
	case a.err != nil:
		fmt.Fprintf(t.err, "%v\n", a.err)
		return nil
	}
	var known []operation.Member
	for _, answer := range a.answers.Given {
		known = append(known, answer.Member)
	}
	if !slices.Equal(known, t.known) || !slices.Equal(a.answers.Silent, t.silent) {
		fmt.Fprintf(t.err, "told by %s\n", names(known))
		silent(t.err, a.answers.Silent)
	}
	t.asked, t.known, t.silent = true, known, a.answers.Silent
	return nil
}

func names(members []operation.Member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.Node)
	}
	return strings.Join(all, ", ")
}

// tell prints what a node tells.
func (t *tracing) tell(m *nats.Msg) error {
	var news operation.TraceNews
	if err := json.Unmarshal(m.Data, &news); err != nil {
		return fmt.Errorf("read what a node tells: %w", err)
	}
	if news.LeftOut > 0 {
		fmt.Fprintf(t.err, "%s %s has left out %d records: there were too many\n", news.Tier, news.Node, news.LeftOut)
	}
	t.hops.Forget(seenHops)
	news.Hops = t.hops.Add(news.Record)
	if len(news.Hops) == 0 {
		return nil
	}
	if t.format == formatJSON {
		news.Orchestrator = event.Token(t.request.Orchestrator) // as an id
		text, err := json.Marshal(news)
		if err != nil {
			return fmt.Errorf("encode what a node tells: %w", err)
		}
		_, err = fmt.Fprintln(t.out, string(text))
		return err
	}
	for _, h := range news.Hops {
		about := "connection " + h.Session
		if news.Event != "" {
			about = "event " + news.Event
		}
		if _, err := fmt.Fprintf(t.out, "%s  %-18s  %s  %s\n", h.At.UTC().Format("15:04:05.000000"), strings.TrimSpace(h.Tier+" "+h.Node), about, hopInWords(h)); err != nil {
			return err
		}
	}
	return nil
}

// ended prints what has come already, and says what was left out.
func (t *tracing) ended(news chan *nats.Msg, sub *nats.Subscription) error {
	for range len(news) {
		if err := t.tell(<-news); err != nil {
			return err
		}
	}
	if n, err := sub.Dropped(); err == nil && n > 0 {
		fmt.Fprintf(t.err, "%d messages came faster than they could be printed, and were left out\n", n)
	}
	switch {
	case !t.asked:
		return errors.New("no node had answered when the time was over")
	case len(t.silent) > 0:
		return errUnwell
	}
	return nil
}

// end has nodes end at once. Those that do not hear it end by themselves.
func (t *tracing) end() {
	t.request.For = 0
	text, err := json.Marshal(t.request)
	for _, tier := range operation.Tiers {
		if err == nil {
			err = t.client.NC.Publish(operation.Subject(tier, operation.Trace), text)
		}
	}
	if err == nil {
		err = t.client.NC.FlushTimeout(time.Second)
	}
	if err != nil {
		fmt.Fprintf(t.err, "nodes tell for up to %s more: %v\n", traceLease, err)
	}
}
