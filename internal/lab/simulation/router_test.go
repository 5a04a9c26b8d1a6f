package simulation

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// router is one router's lane, with its own, stale view of who holds whom.
type router struct {
	lane  *lane.Lane
	epoch eventlog.Epoch
	start uint64
	mark  eventlog.Mark
	view  map[protocol.SessionID]claim
	seen  map[event.Token]uint64 // for the mistakes only: what the lane may have forgotten
}

type claim struct {
	token event.Token
	edge  string
}

// flight is a batch between a router and an edge.
type flight struct {
	from *router
	send lane.Send
}

func (w *world) startRouter() {
	w.examine()
	start, mark := uint64(0), eventlog.Mark{}
	if w.checkpoint.epoch == w.log.announced {
		start, mark = w.checkpoint.sequence, w.checkpoint.seen
	}
	rt := &router{epoch: w.log.announced, start: start, mark: mark, view: map[protocol.SessionID]claim{}, seen: map[event.Token]uint64{}}
	rt.lane = lane.New(lane.Config{Epoch: w.log.announced, Start: start, Now: w.now, Memory: routerMemory, Inflight: 3, Holders: rt.holders})
	w.routers = append(w.routers, rt)
}

// examine raises the epoch if the checkpoint and the log say so.
func (w *world) examine() {
	if w.checkpoint.epoch != w.log.announced {
		return
	}
	seen := w.checkpoint.seen
	if w.mistake == onlyPositions {
		seen.Stored = time.Time{}
	}
	switch standing := seen.Judge(w.log.evidence(seen)); {
	case standing == eventlog.Continues:
		if !slices.ContainsFunc(w.log.stored, func(s stored) bool { return s.Sequence > w.log.cut && s.Sequence <= seen.Sequence }) {
			w.log.epoch = w.log.announced // no sequence means two events any more
		}
	case w.log.announced == w.log.epoch:
		w.fail("a rollback is seen where there was none: %v", standing)
	default:
		w.log.announced = w.log.epoch
	}
}

func (rt *router) holders(dst []string, token event.Token) []string {
	for _, c := range rt.view {
		if c.token == token && !slices.Contains(dst, c.edge) {
			dst = append(dst, c.edge)
		}
	}
	slices.Sort(dst)
	return dst
}

// feed hands the lane the log's next message.
func (w *world) feed(rt *router) {
	if rt.lane.Hold() > 0 {
		return
	}
	position := rt.lane.Position()
	if w.mistake == sharedConsumer {
		position = max(w.sharedPos, rt.lane.Position())
	}
	i := slices.IndexFunc(w.log.stored, func(s stored) bool { return s.Sequence > position })
	if i < 0 {
		return
	}
	w.sharedPos = w.log.stored[i].Sequence
	if m := w.log.stored[i]; m.Sequence >= rt.mark.Sequence {
		rt.mark = eventlog.Mark{Sequence: m.Sequence, Stored: m.Stored}
	}
	rt.lane.Event(w.log.stored[i].Message)
	w.takeLane(rt)
}

func (w *world) flushLane(rt *router) {
	rt.lane.Tick(w.now)
	w.takeLane(rt)
}

func (w *world) takeLane(rt *router) {
	for _, e := range rt.lane.Take(nil) {
		switch e := e.(type) {
		case lane.Send:
			w.distort(rt, &e)
			w.flights = append(w.flights, flight{rt, e})
		case lane.DeadLetter:
			rt.lane.DeadLettered(e.Message.Sequence, w.chance(.8))
		}
	}
	if cp := (checkpoint{rt.epoch, rt.lane.Checkpoint(), rt.mark}); slices.Contains(w.routers, rt) && rt.epoch == w.log.announced && w.chance(.3) {
		w.checkpoint = cp
	}
}

// land lets a batch arrive, late and out of order, or not at all.
func (w *world) land() {
	if len(w.flights) == 0 {
		return
	}
	i := w.r.IntN(len(w.flights))
	f := w.flights[i]
	w.flights = slices.Delete(w.flights, i, i+1)
	e := w.edge(f.send.Edge)
	switch {
	case e == nil:
		f.from.lane.Receipt(f.send.ID, lane.NoResponders)
	case w.chance(.1):
		f.from.lane.Receipt(f.send.ID, lane.TimedOut)
	default:
		w.receive(e, f.send.Batch)
		if w.chance(.9) {
			f.from.lane.Receipt(f.send.ID, lane.Received)
		} else {
			f.from.lane.Receipt(f.send.ID, lane.TimedOut) // the receipt was lost
		}
	}
	w.takeLane(f.from)
}

// learn brings a router's view closer to the truth by one change.
func (w *world) learn(rt *router) {
	var gone, come []protocol.SessionID
	truth := map[protocol.SessionID]claim{}
	for _, e := range w.edges {
		for _, c := range e.conns {
			truth[c.session] = claim{c.daemon.token, e.name}
		}
	}
	for id := range rt.view {
		if _, ok := truth[id]; !ok {
			gone = append(gone, id)
		}
	}
	for id := range truth {
		if _, ok := rt.view[id]; !ok {
			come = append(come, id)
		}
	}
	slices.Sort(gone)
	slices.Sort(come)
	if id, ok := pick(w, come); ok && (len(gone) == 0 || w.chance(.5)) {
		rt.view[id] = truth[id]
		rt.lane.ClaimAdded(truth[id].token, truth[id].edge)
	} else if id, ok := pick(w, gone); ok {
		lost := rt.view[id].edge
		delete(rt.view, id)
		if w.edge(lost) == nil {
			for id, c := range rt.view {
				if c.edge == lost {
					delete(rt.view, id)
				}
			}
			rt.lane.EdgeGone(lost)
		}
	}
	w.takeLane(rt)
}

func (w *world) receive(e *edge, b delivery.Batch) {
	shared := make([]*session.Candidate, len(b.Events))
	for i, f := range b.Events {
		shared[i] = session.NewCandidate(f.Message)
	}
	for _, c := range slices.Clone(e.conns) {
		for i, f := range b.Events {
			if f.Token == c.daemon.token && w.tell(c, b.Epoch, f.Message.Sequence) {
				c.s.Forwarded(b.Epoch, shared[i], f.After, w.now)
			}
		}
		for _, h := range b.Hints {
			if h.Token == c.daemon.token && w.tell(c, b.Epoch, h.Sequence) {
				c.s.Hint(b.Epoch, h.Sequence, w.now)
			}
		}
		w.carryOut(c)
	}
}
