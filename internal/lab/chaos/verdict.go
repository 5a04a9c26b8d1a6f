package chaos

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// natsAftermath is how long after a NATS server is back its streams may be
	// electing leaders.
	natsAftermath = 15 * time.Second
	// late is from when on an event has waited for a fault.
	late = time.Second
	// tooLate is longer than any fault of a run holds up what the log holds: then
	// it was not the live path that brought it, but the net under it.
	tooLate = 30 * time.Second
	// heldTooLong is longer than a bridge may have to hold an event. A NATS server
	// whose leadership changes while it stores an event may take the same id for
	// "in process" until the duplicate window (2 minutes) has passed.
	heldTooLong = 150 * time.Second
)

// verdict is what came of a run.
type verdict struct {
	*chaos
	report  ledger.Report
	summary []string
}

// promise is what a run under faults is held to.
func (c *chaos) promise() ledger.Promise {
	edges := map[string]string{}
	for _, e := range c.Edges {
		edges[e.URL] = e.Name()
	}
	slow := c.slowSpans()
	promptly := func(from, to time.Time) bool {
		return !slices.ContainsFunc(slow, func(s span) bool { return s.from.Before(to) && s.to.After(from) })
	}
	limit := ledger.Limit{Connections: connectionLimit, Spread: spread, Together: c.nemesis.together}
	return ledger.Promise{ConfirmedOnly: true, Splits: true, Limit: limit, Calm: func(url string, from, to time.Time) bool {
		return promptly(from, to) && c.nemesis.calm(from, to, 0, is(edges[url])) && c.nemesis.calm(from, to, natsAftermath, isNATS)
	}}
}

func is(name string) func(process string) bool { return func(p string) bool { return p == name } }

func isNATS(process string) bool { return strings.HasPrefix(process, "nats") }

func (c *chaos) judge(ctx context.Context) (*verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	if err := c.Log.Record(ctx, c.Ledger, partitions); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	v := &verdict{chaos: c, report: c.Judge(c.promise())}
	for _, text := range c.rivals.Refused() {
		v.Find("%s", text)
	}
	v.judgeRedis()
	v.judgeWaits()
	if err := v.judgeLetters(ctx); err != nil {
		return nil, err
	}
	v.countMetrics(ctx, "gateway_epoch_raised_total", "gateway_log_epoch_changes_total")
	return v, nil
}

func (v *verdict) note(format string, args ...any) {
	v.summary = append(v.summary, fmt.Sprintf(format, args...))
}

// judgeRedis looks at what bridges were given by Redis: it must be in the log
// if all bridges had it and one of them had time to publish it.
func (v *verdict) judgeRedis() {
	taken, untaken, lost := 0, 0, 0
	for _, p := range v.Feed.Since(time.Time{}) {
		switch {
		case p.Way != traffic.OnRedis:
		case p.Taken.IsZero():
			untaken++
		default:
			taken++
			if !v.Ledger.IsStored(p.Event.OrchestratorID, p.Event.ID) {
				lost++
				v.judgeLost(p)
			}
		}
	}
	v.note("Redis: %d heard by a bridge, %d of them lost with bridges or Redis, %d heard by nobody", taken, lost, untaken)
	v.note("JetStream: %d retries until acknowledged, %d publishes took over %s", v.Feed.Retries(), len(v.slowSpans()), slow)
}

func (v *verdict) judgeLost(p traffic.Publication) {
	// What holds the log up makes the bridges hold the event.
	until := p.Taken.Add(3 * time.Second)
	for until.Before(v.healed) && !v.nemesis.calm(until.Add(-3*time.Second), until, natsAftermath, isNATS) {
		until = until.Add(time.Second)
	}
	begun := p.Taken.Add(-time.Second)
	if p.Bridges < int64(len(v.Bridges)) || !v.nemesis.calm(begun, p.Taken.Add(time.Second), time.Second, is("redis")) {
		return
	}
	if slices.ContainsFunc(v.Bridges, func(b *cluster.Node) bool { return v.nemesis.calm(begun, until, 0, is(b.Name())) }) {
		v.Find("all bridges heard %s at %s and one lived on, but the log does not hold it\n%s", p.Event.ID,
			p.Taken.UTC().Format("15:04:05.000"), v.StoryOfEvent(p.Event.OrchestratorID, p.Event.ID))
	}
}

// judgeWaits looks for daemons that were subscribed and got events very late,
// and for events that were in the log very late.
func (v *verdict) judgeWaits() {
	var waited, held []delay
	for _, d := range v.stayed() {
		since := slices.MaxFunc([]time.Time{d.Published, d.Stored, d.Subscribed}, time.Time.Compare)
		waited = append(waited, delay{d, d.Received.Sub(since)})
		held = append(held, delay{d, d.Stored.Sub(d.Published)})
	}
	v.findLongest(waited, tooLate, "events were over %s in the log before they came to daemons that were subscribed all the time")
	v.findLongest(held, heldTooLong, "events were in the log only over %s after they were published")
}

// delay is how long something took with an event.
type delay struct {
	ledger.Delivery
	took time.Duration
}

// findLongest tells of the longest of the delays over a limit, if there is one.
func (v *verdict) findLongest(all []delay, limit time.Duration, what string) {
	all = slices.DeleteFunc(all, func(d delay) bool { return d.took <= limit })
	if len(all) == 0 {
		return
	}
	worst := slices.MaxFunc(all, func(a, b delay) int { return cmp.Compare(a.took, b.took) })
	v.Find("%d "+what+"; the longest %s\n%s", len(all), limit, worst.took, v.StoryOfEvent(worst.Event.OrchestratorID, worst.Event.ID))
}

// judgeLetters looks at the dead letters: only what no daemon acknowledges
// belongs there.
func (v *verdict) judgeLetters(ctx context.Context) error {
	letters, err := v.Log.DeadLetters(ctx)
	if err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	crashing := map[protocol.OrchestratorID]bool{}
	for _, s := range v.Crowd.Seats(traffic.Crashing) {
		crashing[s.Profile.Orchestrator] = true
	}
	for _, l := range letters {
		n, orchestrator := number(l.EventID), protocol.OrchestratorID(l.Orchestrator)
		if !neverAcked(n) && !(crashing[orchestrator] && isDeadly(n)) {
			v.Find("dead letter of an event that would have been acknowledged: %s of %s, daemon %s: %s", l.EventID, l.Orchestrator, l.Daemon, l.Detail)
		}
	}
	v.note("dead letters: %d", len(letters))
	return nil
}

func (v *verdict) countMetrics(ctx context.Context, names ...string) {
	for _, name := range names {
		total := 0.0
		for _, n := range v.Nodes() {
			if value, err := n.Metric(ctx, name); err == nil {
				total += value
			}
		}
		v.note("%s since the nodes' last starts: %.0f", name, total)
	}
}

// stayed returns what came to the steady daemons.
func (c *chaos) stayed() []ledger.Delivery {
	steady := map[ledger.Seat]bool{}
	for _, s := range c.Crowd.Seats(traffic.Steady) {
		steady[s.Profile.Seat] = true
	}
	return slices.DeleteFunc(c.Ledger.Deliveries(), func(d ledger.Delivery) bool { return !steady[d.Seat] })
}
