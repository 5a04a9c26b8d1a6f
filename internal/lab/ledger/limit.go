package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Limit is how many connections one orchestrator may have at once, over all
// edges.
type Limit struct {
	// Connections is the limit; 0: it is not judged.
	Connections int
	// Spread is how long edges that see each other may take until they know of
	// each other's connections and have closed those over the limit.
	Spread time.Duration
	// Together reports whether all edges saw each other all the time from one time
	// to the other, and nothing kept them from their daemons.
	Together func(from, to time.Time) bool
}

// step is how finely a time over the limit is searched for a span in which the
// edges saw each other.
const step = 250 * time.Millisecond

// judgeLimit looks at how many connections each orchestrator had at once, as
// its daemons saw it: from the first subscribed until they knew of the end.
func (j *judge) judgeLimit() {
	limit := j.promise.Limit
	if limit.Connections == 0 {
		return
	}
	for orchestrator, conns := range j.connsByOrchestrator() {
		for _, span := range j.crowds(conns) {
			j.report.OverLimit += span.to.Sub(span.from)
			for from := span.from; !from.Add(limit.Spread).After(span.to); from = from.Add(step) {
				if to := from.Add(limit.Spread); limit.Together(from, to) {
					j.report.Violations = append(j.report.Violations, Violation{
						Kind: Crowded, Orchestrator: orchestrator, From: span.from, To: span.to,
						Text: fmt.Sprintf("%s had more than %d connections from %s to %s, and all edges saw each other from %s to %s",
							orchestrator, limit.Connections, stamp(span.from), stamp(span.to), stamp(from), stamp(to)),
					})
					break
				}
			}
		}
	}
}

func (j *judge) connsByOrchestrator() map[protocol.OrchestratorID][]*connection {
	all := map[protocol.OrchestratorID][]*connection{}
	for _, c := range j.conns {
		if c.subscribed > 0 {
			all[c.Orchestrator] = append(all[c.Orchestrator], c)
		}
	}
	return all
}

// span is a time from one moment to another.
type span struct{ from, to time.Time }

// crowds returns when more of some connections than the limit were open.
func (j *judge) crowds(conns []*connection) []span {
	type change struct {
		when time.Time
		by   int
	}
	var changes []change
	now := j.clock()
	for _, c := range conns {
		changes = append(changes, change{c.subscribedAt, 1}, change{c.end(now), -1})
	}
	// Of two at the same moment, the close is first.
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(a.when.Compare(b.when), cmp.Compare(a.by, b.by)) })
	var spans []span
	open := 0
	for _, c := range changes {
		before := open
		open += c.by
		j.report.MostConnections = max(j.report.MostConnections, open)
		switch limit := j.promise.Limit.Connections; {
		case before == limit && open > limit:
			spans = append(spans, span{from: c.when})
		case before > limit && open == limit:
			spans[len(spans)-1].to = c.when
		}
	}
	return spans
}

// end is when a connection was closed, or now.
func (c *connection) end(now time.Time) time.Time {
	if c.closed == 0 {
		return now
	}
	return c.closedAt
}

// crowdStoryLocked lists an orchestrator's connections around a time; mu is held.
func (l *Ledger) crowdStoryLocked(orchestrator protocol.OrchestratorID, from, to time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "connections of %s from %s to %s\n", orchestrator, stamp(from), stamp(to))
	for _, c := range l.conns {
		if c.Orchestrator == orchestrator && c.openedAt.Before(to) && (c.closed == 0 || c.closedAt.After(from)) {
			fmt.Fprintf(&b, "  %s: from %s, subscribed %s, to %s\n", c, stamp(c.openedAt), stamp(c.subscribedAt), stamp(c.closedAt))
		}
	}
	return b.String()
}
