package ledger

import (
	"bytes"
	"fmt"
	"strings"
	"time"

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
	// ConfirmedOnly: only events of which Confirmed was told must be in the log,
	// and in the order of their publishing.
	ConfirmedOnly bool
	// Splits: nodes did not see each other all the time, so that a successor may
	// have begun to answer for a daemon that was still connected elsewhere.
	Splits bool
	// Calm reports whether an edge and the log worked without any disturbance
	// from one time to the other, so that the edge's cursors were written. Nil:
	// nothing is known, and repeats on later connections are only counted.
	Calm func(edge string, from, to time.Time) bool
	// Limit is that of the connections of an orchestrator.
	Limit Limit
	// Except reports whether a violation is expected, and so does not count as one
	// here. It must not ask the ledger, which is judging. Nil: none is.
	Except func(Violation) bool
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
	// Repeated: an event arrived again on one connection without being marked, or
	// after its ack, or though it needs none; or on a later one although what had
	// become of it was written to the cursor.
	Repeated Kind = "repeated"
	// Doubled: the log holds an event twice.
	Doubled Kind = "doubled"
	// Crowded: an orchestrator had more connections than it may have, though the
	// edges saw each other and had had time to close some.
	Crowded Kind = "crowded"
)

// Violation is one broken promise.
type Violation struct {
	Kind Kind
	Text string
	// Orchestrator and Event say which event it is about; see Story. Event is
	// empty where it is about connections, from one time to another.
	Orchestrator protocol.OrchestratorID
	Event        string
	From, To     time.Time
}

func (v Violation) String() string { return string(v.Kind) + ": " + v.Text }

// Missing reports whether time may mend it: what has not come may yet come.
func (v Violation) Missing() bool { return v.Kind == Lost || v.Kind == Unstored }

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
	// Reasons counts the repeats by what explains them.
	Reasons map[Reason]int
	// MostConnections is how many connections an orchestrator had at once at most,
	// and OverLimit how long there were too many, summed over orchestrators. Both
	// are 0 where no limit is judged.
	MostConnections int
	OverLimit       time.Duration
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
	j.judgeLimit()
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

func (j *judge) violated(kind Kind, k key, format string, args ...any) {
	v := Violation{Kind: kind, Text: fmt.Sprintf(format, args...), Orchestrator: k.orchestrator, Event: k.id}
	if j.promise.Except == nil || !j.promise.Except(v) {
		j.report.Violations = append(j.report.Violations, v)
	}
}

func (c *connection) String() string {
	return fmt.Sprintf("connection %d (seat %s, daemon %s, %s)", c.id, c.Seat, c.Daemon, c.Edge)
}

// judgeConnection looks at what came on one connection: whose it was, whether
// it was wanted and intact, and in which order it came.
func (j *judge) judgeConnection(c *connection) {
	seen := map[string]bool{}
	newest := map[int]uint64{} // by priority
	current := false           // the receipt is of the log as it is now
	for _, r := range c.receipts {
		if !current && !r.when.Before(j.logLost) {
			current = true
			clear(seen)
			clear(newest)
		}
		k := key{c.Orchestrator, r.event.EventID}
		p := j.published[k]
		if p == nil {
			j.judgeStranger(c, r)
			continue
		}
		switch {
		case p.event.DaemonID != "" && !j.promise.Splits && !j.mayAnswer(c, p.event.DaemonID):
			j.violated(Foreign, k, "%s got %s, which is for daemon %s", c, p.event.ID, p.event.DaemonID)
		case !c.wants(p.event):
			j.violated(Unwanted, k, "%s got %s of type %s in channel %q", c, p.event.ID, p.event.Type, p.event.ChannelID)
		}
		if what := j.difference(p.event, r.event, current); what != "" {
			j.violated(Altered, k, "%s got %s with another %s", c, p.event.ID, what)
		}
		if !seen[p.event.ID] && current {
			j.judgeOrder(c, p.event, newest)
		}
		if seen[p.event.ID] && !r.event.Redelivered {
			j.violated(Repeated, k, "%s got %s again, unmarked", c, p.event.ID)
		}
		seen[p.event.ID] = true
	}
}

// judgeStranger names what is no event of the connection's orchestrator.
func (j *judge) judgeStranger(c *connection, r receipt) {
	for _, p := range j.order {
		if p.event.ID == r.event.EventID {
			j.violated(Foreign, keyOf(p.event), "%s of orchestrator %s got %s of %s", c, c.Orchestrator, p.event.ID, p.event.OrchestratorID)
			return
		}
	}
	j.violated(Invented, key{c.Orchestrator, r.event.EventID}, "%s got %q", c, r.event.EventID)
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

// difference names what is not as it was published, or as the log has it now
// where it came from that.
func (j *judge) difference(want event.Event, got protocol.Event, fromLog bool) string {
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
	case known && fromLog && !stands(got.Position, at):
		return fmt.Sprintf("position %q, it stands at %d in partition %d", got.Position, at.Sequence, at.Partition)
	}
	return ""
}

// stands reports whether a position is that of a place, in whatever epoch.
func stands(position string, at Place) bool {
	p, err := eventlog.ParsePosition(position)
	return err == nil && p.Partition == at.Partition && p.Sequence == at.Sequence
}

// judgeOrder looks at a first receipt: only events of higher priority may have
// overtaken it.
func (j *judge) judgeOrder(c *connection, e event.Event, newest map[int]uint64) {
	at, known := j.stored[keyOf(e)]
	if !known {
		return
	}
	for priority, sequence := range newest {
		if priority <= e.Priority && sequence > at.Sequence {
			j.violated(Misordered, keyOf(e), "%s got %s, sequence %d, after sequence %d", c, e.ID, at.Sequence, sequence)
		}
	}
	newest[e.Priority] = max(newest[e.Priority], at.Sequence)
}
