package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// promise is what the gateway is held to. That an event published on Redis is
// in the log is judged apart: two bridges that started at different times may
// store two such events in another order.
var promise = ledger.Promise{ConfirmedOnly: true}

// recordSometimes notes what the log holds before it makes room for more.
func (t *trial) recordSometimes(ctx context.Context) {
	for ; ctx.Err() == nil; traffic.Wait(ctx, recordEvery) {
		if err := t.record(ctx); err != nil {
			t.logger.Warn("the log cannot be read now", "error", err)
		}
	}
}

func (t *trial) record(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recordEvery)
	defer cancel()
	return t.log.Record(ctx, t.ledger, t.cfg.Partitions)
}

// settle waits until everything has come that is owed, or no longer: what is
// missing then is for the judge.
func (t *trial) settle(ctx context.Context) error {
	for deadline := time.Now().Add(settleTimeout); ; traffic.Wait(ctx, time.Second) {
		err := t.record(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && len(t.unstored(t.feed.Since(time.Time{}))) == 0 && len(t.ledger.Outstanding(promise)) == 0:
			return nil
		case time.Now().After(deadline) && err != nil:
			return fmt.Errorf("read the log: %w", err)
		case time.Now().After(deadline):
			return nil
		}
	}
}

// unstored returns the accepted events that are not in the log.
func (t *trial) unstored(published []traffic.Publication) (all []traffic.Publication) {
	for _, p := range published {
		if !p.Taken.IsZero() && !t.ledger.IsStored(p.Event.OrchestratorID, p.Event.ID) {
			all = append(all, p)
		}
	}
	return all
}

// judge writes the table and what is wrong.
func (t *trial) judge(out io.Writer, published []traffic.Publication) error {
	t.account.begin("")
	report := t.ledger.Check(promise)
	wrong, lost := t.wrongs(report, published)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d daemons; delivered counts an event once for each daemon it is for; a wait is from the first attempt to publish\n",
		table(t.account.count(published, t.ledger.Deliveries(), lost)), t.cfg.Daemons)
	for _, reason := range ledger.Reasons() {
		if n := report.Reasons[reason]; n > 0 {
			fmt.Fprintf(&b, "%d duplicates: %s\n", n, reason)
		}
	}
	unheard := 0
	for _, p := range published {
		if p.Way == traffic.OnRedis && p.Taken.IsZero() {
			unheard++
		}
	}
	if unheard > 0 {
		fmt.Fprintf(&b, "%d events were not accepted: no bridge listened on Redis, or Redis was away\n", unheard)
	}
	const most = 20
	for _, w := range wrong[:min(most, len(wrong))] {
		fmt.Fprintln(&b, w)
	}
	verdict, failed := "PASSED: nothing lost, nothing out of order", error(nil)
	if len(wrong) > 0 {
		verdict, failed = fmt.Sprintf("FAILED: %d findings", len(wrong)), ErrFailed
	}
	fmt.Fprintln(&b, verdict)
	_, err := io.WriteString(out, b.String())
	return errors.Join(err, failed)
}

// wrongs lists what must not be, and which events are lost.
func (t *trial) wrongs(report ledger.Report, published []traffic.Publication) (wrong []string, lost map[eventKey]bool) {
	lost = map[eventKey]bool{}
	for _, v := range report.Violations {
		wrong = append(wrong, v.String())
		if v.Missing() {
			lost[eventKey{v.Orchestrator, v.Event}] = true
		}
	}
	for _, p := range t.unstored(published) {
		k := eventKey{p.Event.OrchestratorID, p.Event.ID}
		if !lost[k] {
			wrong = append(wrong, fmt.Sprintf("lost: %s of %s is not in the log", k.id, k.orchestrator))
		}
		lost[k] = true
	}
	for _, s := range t.crowd.Seats() {
		if d := s.Daemon(); d != nil && !d.Subscribed() {
			wrong = append(wrong, fmt.Sprintf("daemon %s never got in", d.Profile().Daemon))
		}
	}
	if t.feed != nil {
		wrong = append(wrong, t.feed.Refused()...)
	}
	return wrong, lost
}
