package trial

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// promise is what the gateway is held to. That an event published on Redis is
// in the log is judged apart: two bridges that started at different times may
// store two such events in another order.
var promise = ledger.Promise{ConfirmedOnly: true}

// recordSometimes notes what the log holds before it makes room for more.
func (t *trial) recordSometimes(ctx context.Context) {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
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

// settle waits until everything has come that is owed, or no longer.
func (t *trial) settle(ctx context.Context) error {
	deadline := time.Now().Add(settleTimeout)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := t.record(ctx)
		switch {
		case err == nil && len(t.unstored()) == 0 && len(t.unreceived()) == 0 && len(t.ledger.Outstanding(promise)) == 0:
			return nil
		case time.Now().After(deadline) && err != nil:
			return fmt.Errorf("read the log: %w", err)
		case time.Now().After(deadline):
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unstored returns the accepted events that are not in the log.
func (t *trial) unstored() []event.Event {
	return t.account.missing(func(e event.Event, _ int) bool { return t.ledger.IsStored(e.OrchestratorID, e.ID) })
}

// unreceived returns the accepted events that have not come to all daemons.
func (t *trial) unreceived() []event.Event {
	seats := map[string]int{}
	for _, d := range t.daemons {
		seats[string(d.Profile().Orchestrator)]++
	}
	return t.account.missing(func(e event.Event, got int) bool { return got >= seats[string(e.OrchestratorID)] })
}

// judge writes the table and what is wrong.
func (t *trial) judge(out io.Writer) error {
	t.account.end()
	report := t.ledger.Check(promise)
	wrong := t.wrongs(report)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d daemons; delivered counts an event once for each daemon it is for; a wait is from the first attempt to publish\n", t.account, t.cfg.Daemons)
	for _, reason := range ledger.Reasons() {
		if n := report.Reasons[reason]; n > 0 {
			fmt.Fprintf(&b, "%d duplicates: %s\n", n, reason)
		}
	}
	if t.account.unsaid > 0 {
		fmt.Fprintf(&b, "%d events were not accepted: no bridge listened on Redis, or Redis was away\n", t.account.unsaid)
	}
	const most = 20
	for _, w := range wrong[:min(most, len(wrong))] {
		fmt.Fprintln(&b, w)
	}
	if len(wrong) == 0 {
		fmt.Fprintln(&b, "PASSED: nothing lost, nothing out of order")
	} else {
		fmt.Fprintf(&b, "FAILED: %d findings\n", len(wrong))
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return ErrFailed
	}
	return nil
}

// wrongs lists what must not be, and counts losses in the steps.
func (t *trial) wrongs(report ledger.Report) []string {
	wrong, lost := append([]string(nil), t.findings...), map[string]bool{}
	for _, v := range report.Violations {
		wrong = append(wrong, v.String())
		if v.Kind == ledger.Lost || v.Kind == ledger.Unstored {
			lost[v.Event] = true
		}
	}
	for what, events := range map[string][]event.Event{"is not in the log": t.unstored(), "has not come to all its daemons": t.unreceived()} {
		for _, e := range events {
			if !lost[e.ID] {
				wrong = append(wrong, fmt.Sprintf("lost: %s of %s %s", e.ID, e.OrchestratorID, what))
			}
			lost[e.ID] = true
		}
	}
	for _, d := range t.daemons {
		if !d.Subscribed() {
			wrong = append(wrong, fmt.Sprintf("daemon %s never got in", d.Profile().Daemon))
		}
	}
	t.account.blame(lost)
	return wrong
}
