package session

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// fits reports whether an event of size bytes may be considered now, and
// remembers one that may not (invariant 4).
func (s *Session) fits(size int) bool {
	if s.hasRoom(size) {
		return true
	}
	if s.blocked == 0 {
		s.emit(WindowFull{})
	}
	s.blocked = max(1, size)
	return false
}

// hasRoom bounds events, bytes and settled ranges. Settling can leave at most
// half as many ranges as there are unsettled events and ranges together, so the
// last bound keeps every range that will ever exist within a cursor entry: what
// was acknowledged is not forgotten over a reconnect.
func (s *Session) hasRoom(size int) bool {
	w := &s.window
	return w.unsettled == 0 ||
		w.unsettled < s.mostUnsettled() &&
			w.bytes+size <= s.cfg.WindowBytes &&
			w.unsettled+w.ranges+len(s.known) < 2*cursor.MaxRanges
}

// consider decides about the next event of the log. Only events above complete
// come here, in log order, with nothing of the orchestrator missing between
// (invariant 2), and only if they fit.
func (s *Session) consider(c *Candidate) {
	m := &c.message
	s.complete = m.Sequence
	if why := s.judge(c); why != "" {
		s.window.pass(m.Sequence)
		s.emit(Filtered{Why: why})
		s.dirty = true
		return
	}
	ev, body := c.keep()
	p := &pending{event: ev, body: body, stored: m.Stored}
	repeat := m.Sequence <= s.sent
	if s.sends.Sequence == m.Sequence {
		p.vain = s.sends.Count
		repeat = repeat || p.vain > 0
		s.forgive(p)
	}
	s.window.push(m.Sequence, p)
	if p.vain >= s.cfg.MaxVainTries {
		s.deadLetter(m.Sequence, p)
		return
	}
	s.send(m.Sequence, p, repeat)
}

// judge says why the event is not to be sent, if it is not.
func (s *Session) judge(c *Candidate) FilterReason {
	if s.knownSettled(c.message.Sequence) {
		return FilteredSettled
	}
	if len(c.message.Body) > s.cfg.MaxEventBytes {
		return FilteredInvalid
	}
	ev, err := c.parse()
	switch {
	case err != nil:
		return FilteredInvalid
	case event.TokenOf(ev.OrchestratorID) != s.cfg.Orchestrator:
		return FilteredInvalid // stored under another's subject (invariant 5)
	case ev.DaemonID != "" && ev.DaemonID != s.cfg.Daemon && !slices.Contains(s.answersFor, ev.DaemonID):
		return FilteredAddressee
	case !s.wants(ev):
		return FilteredSubscription
	case s.acknowledgedEarly(ev.ID):
		return FilteredAcknowledged
	}
	return ""
}

// knownSettled reports whether this daemon had settled the event before it
// reconnected, and forgets ranges that lie behind.
func (s *Session) knownSettled(sequence uint64) bool {
	for len(s.known) > 0 && s.known[0].Last < sequence {
		s.known = s.known[1:]
	}
	return len(s.known) > 0 && s.known[0].First <= sequence
}

func (s *Session) wants(ev event.Event) bool {
	for i := range s.subscriptions {
		if s.subscriptions[i].Matches(ev.Type, ev.ChannelID) {
			return true
		}
	}
	return false
}

func (s *Session) send(sequence uint64, p *pending, repeat bool) {
	p.written = false
	s.emit(Send{Run: s.run, Event: p.event, Stored: p.stored, Position: s.position(sequence), Redelivered: repeat})
}

// Written says that the frame of a Send has reached the socket.
func (s *Session) Written(run uint32, sequence uint64, now time.Time) {
	if run != s.run {
		return
	}
	s.sent = max(s.sent, sequence)
	i, ok := s.window.find(sequence)
	if !ok {
		return
	}
	p := s.window.items[i].pending
	p.written = true
	if i == 0 {
		s.restartAckClock(now)
	}
	if !p.event.RequiresAck {
		s.settle(i, now)
	}
	s.dirty = true
	s.pump(now)
}

func (s *Session) settle(i int, now time.Time) {
	s.window.settle(i)
	s.atOnce = min(s.atOnce+1, s.cfg.WindowEvents)
	if i == 0 {
		s.restartAckClock(now)
	}
}

func (s *Session) deadLetter(sequence uint64, p *pending) {
	p.dead, p.deadLetterAt = true, time.Time{}
	s.emit(DeadLetter{Run: s.run, Sequence: sequence, Event: p.event, Body: p.body, Tries: p.vain})
}

// DeadLettered is the answer to DeadLetter. Only what is stored there may be
// passed by the cursor (invariant 3).
func (s *Session) DeadLettered(run uint32, sequence uint64, stored bool, now time.Time) {
	if run != s.run {
		return
	}
	i, ok := s.window.find(sequence)
	if !ok {
		return
	}
	if !stored {
		s.window.items[i].pending.deadLetterAt = now.Add(deadLetterRetry)
		return
	}
	s.settle(i, now)
	s.dirty = true
	s.pump(now)
}

// Floor is the cursor: everything up to here is settled (invariant 3).
func (s *Session) Floor() uint64 {
	if len(s.window.items) > 0 {
		return s.window.items[0].first - 1
	}
	return s.complete
}

// Entry is what the cursor of this daemon should say now, in Epoch. It means
// something only while Running.
func (s *Session) Entry(now time.Time) cursor.Entry {
	e := cursor.Entry{
		Floor: s.Floor(), Settled: s.window.settled(), Sends: s.sends, Sent: s.sent, Written: now,
		Subscriptions: slices.Clone(s.subscriptions), AnswersFor: s.answersFor,
	}
	for _, r := range s.known {
		if r.First > s.complete {
			e.Settled = append(e.Settled, r)
		}
	}
	if len(s.window.items) > 0 {
		oldest := s.window.items[0]
		e.Sends = cursor.Sends{Sequence: oldest.first, Count: oldest.pending.vain}
	} else if e.Sends.Sequence <= e.Floor {
		e.Sends = cursor.Sends{}
	}
	return e
}

// Epoch is the epoch in which Entry's sequences mean something.
func (s *Session) Epoch() eventlog.Epoch { return s.epoch }
