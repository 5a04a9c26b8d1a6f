package ledger

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Promise is what a run is held to beyond what always holds.
type Promise struct {
	// Unacked: events that need no ack must have arrived too. They are sent
	// once, so whatever breaks a connection may lose one.
	Unacked bool
	// PublishOrder: the log must hold the events of each orchestrator in the
	// order of their publishing. A bridge that starts late may break it.
	PublishOrder bool
}

// Kind says what was violated.
type Kind string

// The kinds of violations.
const (
	// Lost: nobody, or not everybody who was owed it, has got and acknowledged
	// an event, and it is not in the dead letters.
	Lost Kind = "lost"
	// Unstored: an event that was published is not in the log.
	Unstored Kind = "unstored"
	// Misordered: a connection, or the log, has events in another order.
	Misordered Kind = "misordered"
	// Foreign: a daemon got an event of another orchestrator or daemon.
	Foreign Kind = "foreign"
	// Unwanted: a daemon got an event that it had not subscribed to.
	Unwanted Kind = "unwanted"
	// Altered: an event arrived with other content than it was published with.
	Altered Kind = "altered"
	// Invented: an event arrived that nobody published.
	Invented Kind = "invented"
	// Repeated: an event arrived again on one connection without being marked.
	Repeated Kind = "repeated"
)

// Violation is one broken promise.
type Violation struct {
	Kind Kind
	Text string
}

func (v Violation) String() string { return string(v.Kind) + ": " + v.Text }

// Report is the judgement of a run.
type Report struct {
	Violations []Violation

	Published, Connections, Receipts, Acks int
	// Repeats counts receipts of what the seat had already: marked as
	// redelivered, and unmarked ones on a later connection, which are allowed
	// where the earlier connection's end or its edge's crash hid that it was sent.
	Repeats, Unmarked int
	// Stale counts the repeats of what the seat had acknowledged on an earlier
	// connection: acks that did not make it into a cursor.
	Stale int
}

// String lists the counts and the first violations.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d published, %d connections, %d receipts, %d acks, %d repeats (%d unmarked, %d of what was acknowledged), %d violations",
		r.Published, r.Connections, r.Receipts, r.Acks, r.Repeats, r.Unmarked, r.Stale, len(r.Violations))
	const most = 20
	for _, v := range r.Violations[:min(most, len(r.Violations))] {
		b.WriteString("\n  " + v.String())
	}
	return b.String()
}

// Check judges everything recorded so far.
func (l *Ledger) Check(p Promise) Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := judge{Ledger: l, promise: p}
	j.report.Published, j.report.Connections = len(l.order), len(l.conns)
	for _, c := range l.conns {
		j.report.Receipts += len(c.receipts)
		j.report.Acks += len(c.acked)
		j.judgeConnection(c)
	}
	j.judgeRepeats()
	j.judgeLog()
	j.judgeLosses()
	return j.report
}

// Outstanding returns what is lost if nothing more happens, for callers that
// wait for the rest.
func (l *Ledger) Outstanding(p Promise) []Violation {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := judge{Ledger: l, promise: p}
	j.judgeLosses()
	return j.report.Violations
}

// judge is one Check; the ledger's mu is held all the time.
type judge struct {
	*Ledger
	promise Promise
	report  Report
}

func (j *judge) violated(kind Kind, format string, args ...any) {
	j.report.Violations = append(j.report.Violations, Violation{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

func (c *connection) String() string {
	return fmt.Sprintf("connection %d (seat %s, daemon %s, %s)", c.id, c.Seat, c.Daemon, c.Edge)
}

// judgeConnection looks at what came on one connection: whose it was, whether
// it was wanted and intact, and in which order it came.
func (j *judge) judgeConnection(c *connection) {
	seen := map[string]bool{}
	newest := map[int]uint64{} // by priority
	for _, r := range c.receipts {
		k := key{c.Orchestrator, r.event.EventID}
		p := j.published[k]
		if p == nil {
			j.judgeStranger(c, r)
			continue
		}
		switch {
		case p.event.DaemonID != "" && !j.mayAnswer(c, p.event.DaemonID):
			j.violated(Foreign, "%s got %s, which is for daemon %s", c, p.event.ID, p.event.DaemonID)
		case !c.wants(p.event):
			j.violated(Unwanted, "%s got %s of type %s in channel %q", c, p.event.ID, p.event.Type, p.event.ChannelID)
		}
		if what := j.difference(p.event, r.event); what != "" {
			j.violated(Altered, "%s got %s with another %s", c, p.event.ID, what)
		}
		if !r.event.Redelivered && !seen[p.event.ID] {
			j.judgeOrder(c, p.event, newest)
		}
		if seen[p.event.ID] && !r.event.Redelivered {
			j.violated(Repeated, "%s got %s again, unmarked", c, p.event.ID)
		}
		seen[p.event.ID] = true
	}
}

// judgeStranger names what is no event of the connection's orchestrator.
func (j *judge) judgeStranger(c *connection, r receipt) {
	for _, p := range j.order {
		if p.event.ID == r.event.EventID {
			j.violated(Foreign, "%s of orchestrator %s got %s of %s", c, c.Orchestrator, p.event.ID, p.event.OrchestratorID)
			return
		}
	}
	j.violated(Invented, "%s got %q", c, r.event.EventID)
}

// mayAnswer reports whether a connection may get what is addressed to a daemon:
// its own, or that of a daemon that was there before and had left.
func (j *judge) mayAnswer(c *connection, addressee protocol.DaemonID) bool {
	if c.Daemon == addressee {
		return true
	}
	left := false
	for _, other := range j.conns {
		if other.Orchestrator != c.Orchestrator || other.Daemon != addressee || other.opened > c.opened {
			continue
		}
		if other.closed == 0 || other.closed > c.opened {
			return false
		}
		left = true
	}
	return left
}

// difference names what is not as it was published.
func (j *judge) difference(want event.Event, got protocol.Event) string {
	at, known := j.stored[key{want.OrchestratorID, want.ID}]
	switch {
	case !bytes.Equal(want.Payload, got.Data):
		return fmt.Sprintf("data %.200q", got.Data)
	case want.Type != got.EventType:
		return "type"
	case want.RequiresAck != got.RequiresAck:
		return "requiresAck"
	case want.ChannelID != got.ChannelID, want.WorkspaceID != got.WorkspaceID:
		return "channel or workspace"
	case want.Priority != got.Priority:
		return "priority"
	case want.Timestamp != got.CreatedAt:
		return "createdAt"
	case known && !stands(got.Position, at):
		return fmt.Sprintf("position %q, it stands at %d in partition %d", got.Position, at.Sequence, at.Partition)
	}
	return ""
}

// stands reports whether a position is that of a place, in whatever epoch.
func stands(position string, at Place) bool {
	p, err := eventlog.ParsePosition(position)
	return err == nil && Place{p.Partition, p.Sequence} == at
}

// judgeOrder looks at a first receipt: only events of higher priority may have
// overtaken it.
func (j *judge) judgeOrder(c *connection, e event.Event, newest map[int]uint64) {
	at, known := j.stored[key{e.OrchestratorID, e.ID}]
	if !known {
		return
	}
	for priority, sequence := range newest {
		if priority <= e.Priority && sequence > at.Sequence {
			j.violated(Misordered, "%s got %s, sequence %d, after sequence %d", c, e.ID, at.Sequence, sequence)
		}
	}
	newest[e.Priority] = max(newest[e.Priority], at.Sequence)
}

// judgeRepeats counts what came again, over the connections of each seat.
func (j *judge) judgeRepeats() {
	type history struct{ received, acked map[string]bool }
	seats := map[Seat]history{}
	for _, c := range j.conns {
		before, ok := seats[c.Seat]
		if !ok {
			before = history{map[string]bool{}, map[string]bool{}}
			seats[c.Seat] = before
		}
		for _, r := range c.receipts {
			id := r.event.EventID
			if before.received[id] {
				j.report.Repeats++
				if !r.event.Redelivered {
					j.report.Unmarked++
				}
			}
			if before.acked[id] {
				j.report.Stale++
			}
			before.received[id] = true
		}
		for id := range c.acked {
			before.acked[id] = true
		}
	}
}

// judgeLog looks at what the log holds of what was published. A run that never
// looked into the log is not judged by it.
func (j *judge) judgeLog() {
	if len(j.stored) == 0 {
		return
	}
	last := map[protocol.OrchestratorID]Place{}
	for _, p := range j.order {
		at, ok := j.stored[key{p.event.OrchestratorID, p.event.ID}]
		if !ok {
			if !j.buried[key{p.event.OrchestratorID, p.event.ID}] {
				j.violated(Unstored, "%s of %s", p.event.ID, p.event.OrchestratorID)
			}
			continue
		}
		if before := last[p.event.OrchestratorID]; j.promise.PublishOrder && before.Sequence > at.Sequence {
			j.violated(Misordered, "the log holds %s of %s at %d, before %d", p.event.ID, p.event.OrchestratorID, at.Sequence, before.Sequence)
		}
		last[p.event.OrchestratorID] = at
	}
}
