package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
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
	w        *world
	report   ledger.Report
	findings []string // what is wrong beyond the ledger's violations
	summary  []string
}

// promise is what a run under faults is held to.
func (w *world) promise() ledger.Promise {
	edges := map[string]string{}
	for _, e := range w.Edges {
		edges[e.URL] = e.Name()
	}
	limit := ledger.Limit{Connections: connectionLimit, Spread: spread, Together: w.nemesis.together}
	return ledger.Promise{ConfirmedOnly: true, Splits: true, Limit: limit, Calm: func(url string, from, to time.Time) bool {
		return w.nemesis.unstrained(from, to) && w.nemesis.calm(from, to, 0, func(p string) bool { return p == edges[url] }) &&
			w.nemesis.calm(from, to, natsAftermath, func(p string) bool { return strings.HasPrefix(p, "nats") })
	}}
}

func (w *world) judge(ctx context.Context) (*verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.log.Record(ctx, w.ledger, partitions); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	v := &verdict{w: w, report: w.ledger.Check(w.promise())}
	v.find(w.Crashes()...)
	v.find(w.nemesis.complaints...)
	v.find(w.press.failed...)
	w.crowd.mu.Lock()
	v.find(w.crowd.refused...)
	w.crowd.mu.Unlock()
	v.judgeHeard()
	v.judgeWaits()
	if err := v.judgeLetters(ctx); err != nil {
		return nil, err
	}
	v.countMetrics(ctx, "gateway_epoch_raised_total", "gateway_log_epoch_changes_total")
	return v, nil
}

func (v *verdict) find(texts ...string) { v.findings = append(v.findings, texts...) }

func (v *verdict) note(format string, args ...any) {
	v.summary = append(v.summary, fmt.Sprintf(format, args...))
}

// judgeHeard looks at what bridges were given by Redis: it must be in the log
// if all bridges had it and one of them had time to publish it.
func (v *verdict) judgeHeard() {
	w := v.w
	lost := 0
	for _, h := range w.press.heard {
		if w.ledger.IsStored(h.event.OrchestratorID, h.event.ID) {
			continue
		}
		lost++
		// What holds the log up makes the bridges hold the event.
		until := h.when.Add(3 * time.Second)
		for until.Before(w.healed) && !w.nemesis.calm(until.Add(-3*time.Second), until, natsAftermath, func(p string) bool { return strings.HasPrefix(p, "nats") }) {
			until = until.Add(time.Second)
		}
		excused := h.bridges < int64(len(w.Bridges)) || !w.nemesis.calm(h.when.Add(-time.Second), h.when.Add(time.Second), time.Second, func(p string) bool { return p == "redis" })
		survivors := slices.ContainsFunc(w.Bridges, func(b *cluster.Node) bool {
			return w.nemesis.calm(h.when.Add(-time.Second), until, 0, func(p string) bool { return p == b.Name() })
		})
		if survivors && !excused {
			text, from, to := w.ledger.Story(h.event.OrchestratorID, h.event.ID)
			v.find(fmt.Sprintf("all bridges heard %s at %s and one lived on, but the log does not hold it\n%s%s", h.event.ID, h.when.UTC().Format("15:04:05.000"), text,
				v.logLines(h.event.ID, string(h.event.OrchestratorID), from, to)))
		}
	}
	v.note("Redis: %d heard by a bridge, %d of them lost with bridges or Redis, %d heard by nobody", len(w.press.heard), lost, w.press.unheard)
	v.note("JetStream: %d retries until acknowledged, %d attempts took over %s", w.press.retries, len(w.nemesis.strains), slow)
}

// judgeWaits looks for daemons that were subscribed and got events very late,
// and for events that were in the log very late.
func (v *verdict) judgeWaits() {
	var waited, held []delay
	for _, d := range v.w.stayed() {
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
	text, from, to := v.w.ledger.Story(worst.Event.OrchestratorID, worst.Event.ID)
	v.find(fmt.Sprintf("%d "+what+"; the longest %s\n%s%s", len(all), limit, worst.took, text,
		v.logLines(worst.Event.ID, string(worst.Event.OrchestratorID), from, to)))
}

// judgeLetters looks at the dead letters: only what no daemon acknowledges
// belongs there.
func (v *verdict) judgeLetters(ctx context.Context) error {
	letters, err := v.w.log.DeadLetters(ctx)
	if err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	for _, l := range letters {
		if !neverAcked(number(l.EventID)) {
			v.find(fmt.Sprintf("dead letter of an event that would have been acknowledged: %s of %s, daemon %s: %s", l.EventID, l.Orchestrator, l.Daemon, l.Detail))
		}
	}
	v.note("dead letters: %d", len(letters))
	return nil
}

func (v *verdict) countMetrics(ctx context.Context, names ...string) {
	for _, name := range names {
		total := 0.0
		for _, n := range v.w.Nodes() {
			if value, err := n.Metric(ctx, name); err == nil {
				total += value
			}
		}
		v.note("%s since the nodes' last starts: %.0f", name, total)
	}
}

// logLines returns what the nodes wrote of an event and its orchestrator, and
// their warnings while it was on its way.
func (v *verdict) logLines(id, orchestrator string, from, to time.Time) string {
	const most = 80
	var lines []string
	for _, n := range v.w.Nodes() {
		file, err := os.Open(n.LogFile())
		if err != nil {
			continue
		}
		scanner := bufio.NewScanner(file)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			line := scanner.Text()
			about := strings.Contains(line, `"`+id+`"`) || strings.Contains(line, `"`+orchestrator+`"`)
			if about || isWarning(line) && within(line, from.Add(-2*time.Second), to.Add(5*time.Second)) {
				lines = append(lines, timeOf(line)+" "+n.Name()+" "+line)
			}
		}
		_ = file.Close()
	}
	slices.Sort(lines)
	text := strings.Join(lines[:min(most, len(lines))], "\n    ")
	return "  log lines of the nodes:\n    " + text + "\n"
}

func isWarning(line string) bool {
	return strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`)
}

func timeOf(line string) string {
	_, rest, _ := strings.Cut(line, `"time":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

func within(line string, from, to time.Time) bool {
	t, err := time.Parse(time.RFC3339Nano, timeOf(line))
	return err == nil && t.After(from) && t.Before(to)
}
