package gatewayctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// symptom is something that is to be mended, or as advice might be better, with what
// to do about it.
type symptom struct {
	Area    string `json:"area"`
	Of      string `json:"of"`
	Problem string `json:"problem"`
	Do      string `json:"do"`
	Advice  bool   `json:"advice,omitempty"`
}

// examination is what the checks have to look at, and what they have found.
type examination struct {
	program *program
	client  *operation.Client
	js      jetstream.JetStream
	now     time.Time
	monitor string // where a NATS server tells of itself, "" where that is not known

	nodes  []examined
	silent []operation.Member
	// log is how nodes are told that the log is laid out; known is false where none
	// has said so.
	log      eventlog.Config
	logKnown bool

	Examined []string  `json:"examined"` // areas
	Unseen   []string  `json:"unseen"`   // what could not be looked at, and why
	Symptoms []symptom `json:"symptoms"`
}

// areas are what is examined, in this order.
var areas = []struct {
	name    string
	examine func(*examination, context.Context)
}{
	{"nodes", (*examination).ofNodes},
	{"gossip", (*examination).ofGossip},
	{"clocks", (*examination).ofClocks},
	{"settings", (*examination).ofSettings},
	{"NATS", (*examination).ofNATS},
	{"streams", (*examination).ofStreams},
	{"sync", (*examination).ofSync},
	{"permissions", (*examination).ofPermissions},
	{"channels", (*examination).ofChannels},
	{"certificates", (*examination).ofCertificates},
	{"publishers", (*examination).ofPublishers},
}

func (p *program) doctorCommand() *cobra.Command {
	var monitor string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong or will be, and say what to do about it",
		Long: "Look for what is wrong or will be, and say what to do about it: nodes and what they wait for, gossip against who answers, clocks, settings " +
			"that disagree, NATS with its version and limits, streams that are not as configured, without a leader or replicas, or nearly full, how " +
			"often NATS syncs to disk, permissions, channels of Redis that bring nothing, certificates near their end, publishers that assume another " +
			"number of partitions. It changes nothing. The exit code is 1 where something is to be mended, and 0 where there is at most advice.",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&monitor, "nats-monitor", "", "the monitoring address of a NATS server, such as http://nats:8222, for what is told nowhere else")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.ask(func(client *operation.Client) error {
			x, err := p.examine(cmd.Context(), client, monitor)
			if err != nil {
				return err
			}
			if err := p.show(x, x.print); err != nil {
				return err
			}
			if slices.ContainsFunc(x.Symptoms, func(s symptom) bool { return !s.Advice }) {
				return errFound
			}
			return nil
		})
	}
	return c
}

// examine asks the nodes, and then looks at one area after the other.
func (p *program) examine(ctx context.Context, client *operation.Client, monitor string) (*examination, error) {
	js, err := p.jetStream(client, jetstream.WithDefaultTimeout(p.timeout))
	if err != nil {
		return nil, err
	}
	x := &examination{
		program: p, client: client, js: js, monitor: strings.TrimSuffix(monitor, "/"), now: time.Now(),
		Examined: []string{}, Unseen: []string{}, Symptoms: []symptom{},
	}
	if err := x.askNodes(ctx); err != nil {
		return nil, err
	}
	for _, area := range areas {
		x.Examined = append(x.Examined, area.name)
		area.examine(x, ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return x, nil
}

// found notes what is to be mended.
func (x *examination) found(of, problem, do string) {
	x.Symptoms = append(x.Symptoms, symptom{Area: x.area(), Of: of, Problem: problem, Do: do})
}

// advise notes what might be better.
func (x *examination) advise(of, problem, do string) {
	x.Symptoms = append(x.Symptoms, symptom{Area: x.area(), Of: of, Problem: problem, Do: do, Advice: true})
}

// unseen notes what could not be looked at.
func (x *examination) unseen(format string, args ...any) {
	x.Unseen = append(x.Unseen, x.area()+": "+fmt.Sprintf(format, args...))
}

func (x *examination) area() string { return x.Examined[len(x.Examined)-1] }

func (x *examination) print(w io.Writer) {
	for _, area := range x.Examined {
		result := "ok"
		mend, advice := 0, 0
		for _, s := range x.Symptoms {
			switch {
			case s.Area != area:
			case s.Advice:
				advice++
			default:
				mend++
			}
		}
		switch {
		case mend > 0:
			result = fmt.Sprintf("%d to be mended", mend)
		case slices.ContainsFunc(x.Unseen, func(u string) bool { return strings.HasPrefix(u, area+": ") }):
			result = "not seen"
		case advice > 0:
			result = "ok, with advice"
		}
		row(w, area, result)
	}
	for _, s := range x.Symptoms {
		kind := "To be mended"
		if s.Advice {
			kind = "Advice"
		}
		fmt.Fprintf(w, "\n%s (%s): %s: %s\n", kind, s.Area, s.Of, s.Problem)
		for line := range strings.Lines(fold(s.Do)) {
			fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
		}
	}
	for i, u := range x.Unseen {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "Not seen: %s\n", u)
	}
}
