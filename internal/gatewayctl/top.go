package gatewayctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// topView is the cluster at a moment.
type topView struct {
	At     time.Time  `json:"at"`
	Status status     `json:"status"`
	Nodes  []topNode  `json:"nodes"`
	Busy   []topBusy  `json:"busy"` // orchestrators with most unsettled events
	Rates  topRates   `json:"rates"`
	counts topCounted // of which the next view makes rates
}

// topNode is a node with what it does.
type topNode struct {
	operation.Member
	Ready  bool           `json:"ready"`
	Holds  map[string]int `json:"holds"`
	CPU    float64        `json:"cpu"`    // cores, since the view before
	Memory float64        `json:"memory"` // bytes
}

// topBusy is an orchestrator whose daemons have much in hand.
type topBusy struct {
	Orchestrator string `json:"orchestrator"`
	Connections  int    `json:"connections"`
	Unsettled    int    `json:"unsettled"`
}

// topRates are what happens each second, over all nodes.
type topRates struct {
	Stored       float64 `json:"stored"`
	Forwarded    float64 `json:"forwarded"`
	Acknowledged float64 `json:"acknowledged"`
	Refused      float64 `json:"refused"`
}

// topCounted are the counters behind them, of each node: a node that has started
// again counts from zero.
type topCounted map[operation.Member]map[string]float64

// topCounters are metrics by what they count.
var topCounters = []struct{ name, metric, label string }{
	{"stored", "gateway_bridge_published_total", ""},
	{"forwarded", "gateway_events_forwarded_total", ""},
	{"acknowledged", "ws_events_total", `type="acked"`},
	{"refused", "gateway_audit_records_total", `act="token_refused"`},
	{"refused", "gateway_audit_records_total", `act="connection_refused"`},
	{"refused", "gateway_audit_records_total", `act="request_refused"`},
	{"refused", "gateway_audit_records_total", `act="over_limit"`},
	{"cpu", "process_cpu_seconds_total", ""},
}

// topOrchestrators is how many are shown.
const topOrchestrators = 10

func (p *program) topCommand() *cobra.Command {
	var every time.Duration
	var once bool
	c := &cobra.Command{
		Use:   "top",
		Short: "Show live what the cluster does: nodes, rates, partitions behind, orchestrators with much in hand",
		Long: "Show live what the cluster does: nodes with what they hold and use, events a second, partitions that are behind, orchestrators with most " +
			"in hand. In a terminal q ends it, + and - change how often it looks; elsewhere it prints one view after the other.",
		Args: cobra.NoArgs,
	}
	c.Flags().DurationVar(&every, "every", 2*time.Second, "how often to look")
	c.Flags().BoolVar(&once, "once", false, "print one view, and end")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if every < leastPause {
			return usageError{fmt.Errorf("--every %s: expected at least %s", every, leastPause)}
		}
		return p.ask(func(client *operation.Client) error {
			t := &topping{client: client}
			switch {
			case once:
				return p.topOnce(cmd.Context(), t, every)
			case terminal(p.out) && p.format == formatTable:
				return p.topScreen(cmd.Context(), t, every)
			}
			return p.watch(cmd.Context(), client, t.find, every)
		})
	}
	return c
}

// topOnce looks twice, since rates need two looks, and prints once.
func (p *program) topOnce(ctx context.Context, t *topping, between time.Duration) error {
	if _, err := t.look(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(between):
	case <-ctx.Done():
		return nil
	}
	view, err := t.look(ctx)
	if err != nil {
		return err
	}
	return p.show(view, view.print)
}

// topping looks again and again.
type topping struct {
	client *operation.Client
	before *topView
}

func (t *topping) find(ctx context.Context, _ *operation.Client) (finding, error) { return t.look(ctx) }

// look asks everybody.
func (t *topping) look(ctx context.Context) (topView, error) {
	found, err := askNodes(ctx, t.client)
	if err != nil {
		return topView{}, err
	}
	view := topView{At: time.Now(), Nodes: []topNode{}, Busy: []topBusy{}, counts: topCounted{}}
	served, err := askPartitions(ctx, t.client)
	if err != nil && len(found.Nodes) == 0 {
		return topView{}, err
	}
	view.Status = summarize(found, served)
	metrics, err := gatherFrom(ctx, t.client, operation.Metrics, struct{}{}, func(r operation.MetricsReport) samples {
		text, err := decompress(r.Metrics)
		if err != nil {
			return nil
		}
		return parseSamples(string(text))
	})
	if err != nil {
		return topView{}, err
	}
	held, err := askConnections(ctx, t.client, operation.ConnectionsRequest{Sort: "unsettled", Limit: operation.MaxConnections})
	if err == nil { // else there is no edge, which status says
		view.Busy = busiest(held.Connections)
	}
	for _, n := range found.Nodes {
		m := metrics[n.Member]
		view.counts[n.Member] = counted(m)
		memory, _ := m.sum("process_resident_memory_bytes")
		view.Nodes = append(view.Nodes, topNode{Member: n.Member, Ready: n.Ready, Holds: n.Holds, Memory: memory})
	}
	view.compare(t.before)
	t.before = &view
	return view, nil
}

func counted(m samples) map[string]float64 {
	all := map[string]float64{}
	for _, c := range topCounters {
		var labels []string
		if c.label != "" {
			labels = append(labels, c.label)
		}
		value, _ := m.sum(c.metric, labels...)
		all[c.name] += value
	}
	return all
}

// compare makes rates of counters.
func (v *topView) compare(before *topView) {
	if before == nil {
		return
	}
	seconds := v.At.Sub(before.At).Seconds()
	sums := map[string]float64{}
	for i, n := range v.Nodes {
		for name, value := range v.counts[n.Member] {
			more := max(0, value-before.counts[n.Member][name]) / seconds
			if before.counts[n.Member] == nil {
				more = 0
			}
			sums[name] += more
			if name == "cpu" {
				v.Nodes[i].CPU = more
			}
		}
	}
	v.Rates = topRates{sums["stored"], sums["forwarded"], sums["acknowledged"], sums["refused"]}
}

func busiest(all []connection) []topBusy {
	byOrchestrator := map[string]*topBusy{}
	for _, c := range all {
		b := byOrchestrator[c.Orchestrator]
		if b == nil {
			b = &topBusy{Orchestrator: c.Orchestrator}
			byOrchestrator[c.Orchestrator] = b
		}
		b.Connections++
		b.Unsettled += c.Unsettled
	}
	list := []topBusy{}
	for _, b := range byOrchestrator {
		if b.Orchestrator != "" {
			list = append(list, *b)
		}
	}
	slices.SortFunc(list, func(a, b topBusy) int {
		return cmp.Or(cmp.Compare(b.Unsettled, a.Unsettled), cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Orchestrator, b.Orchestrator))
	})
	return list[:min(len(list), topOrchestrators)]
}

func (v topView) unwell() error { return v.Status.unwell() }

func (v topView) print(w io.Writer) {
	fmt.Fprintf(w, "%s  events a second: %.1f stored by bridges, %.1f forwarded, %.1f acknowledged; %.1f refusals\n",
		v.At.Format(time.TimeOnly), v.Rates.Stored, v.Rates.Forwarded, v.Rates.Acknowledged, v.Rates.Refused)
	fmt.Fprintf(w, "%d of %d partitions served, %d events behind the log\n\n", v.Status.Served, v.Status.Partitions, v.Status.Lag)
	row(w, "TIER", "NODE", "READY", "CORES", "MEMORY", "HOLDS")
	for _, n := range v.Nodes {
		row(w, string(n.Tier), n.Node, yesNo(n.Ready), fmt.Sprintf("%.2f", n.CPU), fmt.Sprintf("%.0f MiB", n.Memory/(1<<20)), counts(n.Holds))
	}
	fmt.Fprintln(w)
	row(w, "ORCHESTRATOR", "CONNECTIONS", "UNSETTLED")
	for _, b := range v.Busy {
		row(w, b.Orchestrator, fmt.Sprint(b.Connections), fmt.Sprint(b.Unsettled))
	}
	for i, finding := range v.Status.Findings {
		if i == 0 {
			fmt.Fprintln(w, "\nNot well:")
		}
		fmt.Fprintln(w, "- "+strings.TrimSpace(finding))
	}
}
