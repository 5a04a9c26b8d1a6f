package ledger

import (
	"slices"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// judgeLosses looks at each publish: who was owed it, and who has it.
func (j *judge) judgeLosses() {
	seats := j.seatsByOrchestrator()
	for _, p := range j.order {
		k := key{p.event.OrchestratorID, p.event.ID}
		if _, stored := j.stored[k]; j.buried[k] || len(j.stored) > 0 && !stored || !p.event.RequiresAck && !j.promise.Unacked {
			continue
		}
		j.judgeLoss(p, seats[p.event.OrchestratorID])
	}
}

func (j *judge) judgeLoss(p *publication, seats []*seat) {
	wanted, got := false, false
	for _, s := range seats {
		// Also a seat that is not meant may have it: a successor answers for
		// those whose place it has taken.
		has := j.has(s, p.event)
		got = got || has
		if !j.wants(s, p) {
			continue
		}
		wanted = true
		if !has && s.owed(p, seats) {
			j.violated(Lost, keyOf(p.event), "%s of %s never came to seat %s, or was not acknowledged there", p.event.ID, p.event.OrchestratorID, s.name)
			return
		}
	}
	if wanted && !got {
		j.violated(Lost, keyOf(p.event), "%s of %s was acknowledged by nobody", p.event.ID, p.event.OrchestratorID)
	}
}

func (j *judge) has(s *seat, e event.Event) bool {
	if e.RequiresAck {
		return j.seats[s.name].acked[e.ID]
	}
	return j.seats[s.name].received[e.ID]
}

// seat is what the connections of one seat have in common.
type seat struct {
	name  Seat
	conns []*connection
}

func (j *judge) seatsByOrchestrator() map[protocol.OrchestratorID][]*seat {
	all := map[protocol.OrchestratorID][]*seat{}
	for _, c := range j.conns {
		i := slices.IndexFunc(all[c.Orchestrator], func(s *seat) bool { return s.name == c.Seat })
		if i < 0 {
			all[c.Orchestrator] = append(all[c.Orchestrator], &seat{name: c.Seat})
			i = len(all[c.Orchestrator]) - 1
		}
		s := all[c.Orchestrator][i]
		s.conns = append(s.conns, c)
	}
	return all
}

// wants reports whether the seat is meant by an event: every connection that may
// have considered it has subscribed to such events. A daemon may want something
// else from one connection to the next, and what it does not want is settled. A
// connection considers events until the start of a later one, however long ago the
// daemon took it for closed, and maybe without the daemon's having heard that it
// is subscribed; one that got what comes behind the event has considered it for
// good. What is addressed to a daemon is meant for the seat that it ever took; one
// that was never subscribed has no place that anybody could take over from it.
func (j *judge) wants(s *seat, p *publication) bool {
	first := 0
	for i, c := range s.conns {
		if c.subscribed > 0 && c.subscribed < p.at {
			first = i
		}
	}
	may := s.conns[first:]
	unwanted := slices.IndexFunc(may, func(c *connection) bool { return !c.wants(p.event) })
	if unwanted >= 0 && !slices.ContainsFunc(may[:unwanted], func(c *connection) bool { return j.skipped(c, p.event) }) {
		return false
	}
	return p.event.DaemonID == "" || s.had(p.event.DaemonID)
}

// skipped reports whether a connection got something that stands behind an event
// in the log and cannot have overtaken it, and not the event.
func (j *judge) skipped(c *connection, e event.Event) bool {
	behind := false
	for _, r := range c.receipts {
		if r.event.EventID == e.ID {
			return false
		}
		behind = behind || j.isBehind(r, keyOf(e), e.Priority)
	}
	return behind
}

// isBehind reports whether what was received stands behind an event in the log and
// cannot have overtaken it.
func (j *judge) isBehind(r receipt, k key, priority int) bool {
	at, known := j.stored[k]
	other, stored := j.stored[key{k.orchestrator, r.event.EventID}]
	return known && stored && other.Sequence > at.Sequence && r.event.Priority <= priority
}

func (s *seat) had(id protocol.DaemonID) bool {
	return slices.ContainsFunc(s.conns, func(c *connection) bool { return c.Daemon == id && c.subscribed > 0 })
}

// owed reports whether this very seat must have the event, and not just any
// seat of the orchestrator. It must if it was subscribed before the publish and
// its cursor was its own all the time: a daemon with a new id continues where
// the others left off, and may put an absent one's cursor away.
func (s *seat) owed(p *publication, all []*seat) bool {
	if first := s.conns[0].subscribed; first == 0 || first > p.at {
		return false
	}
	return len(all) == 1 || len(s.conns) == 1 || !slices.ContainsFunc(all, (*seat).renamed)
}

func (s *seat) renamed() bool {
	return slices.ContainsFunc(s.conns, func(c *connection) bool { return c.Daemon != s.conns[0].Daemon })
}
