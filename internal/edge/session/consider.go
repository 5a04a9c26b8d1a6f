package session

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
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
	after := s.complete
	s.complete = m.Sequence
	s.considered++
	if why := s.judge(c); why != "" {
		s.passOver(c, after, why)
		return
	}
	ev, body := c.keep()
	p := &pending{event: ev, body: body, stored: m.Stored, after: after, arrival: c.arrival, trace: m.Trace}
	repeat := m.Sequence <= s.sent
	if p.vain = s.sends.Of(m.Sequence, m.Stored); p.vain > 0 {
		repeat = true
		s.forgive(p)
	}
	s.window.push(m.Sequence, p)
	if p.vain >= s.cfg.MaxVainTries {
		s.deadLetter(m.Sequence, p)
		return
	}
	s.send(m.Sequence, p, repeat)
}

// passOver settles an event without sending it. After a crash that need not be
// known, unless the event was acknowledged.
func (s *Session) passOver(c *Candidate, after uint64, why FilterReason) {
	s.window.pass(c.message.Sequence)
	s.emit(Filtered{Why: why})
	s.tracePassedOver(c, why)
	switch why {
	case FilteredAcknowledged:
		s.acked = cursor.AddAcked(s.acked, cursor.Range{First: after + 1, Last: c.message.Sequence})
		s.dirty = true
	case FilteredAddressee, FilteredSubscription:
		if ev, err := c.parse(); err == nil {
			s.notePassed(ev, c.message.Sequence)
		}
	}
}

// notePassed notes which daemon is named by an event that is not to be sent: it
// may have yet to come (invariant 1).
func (s *Session) notePassed(ev event.Event, sequence uint64) {
	if ev.DaemonID == "" || ev.DaemonID == s.cfg.Daemon {
		return
	}
	if s.passed == nil {
		s.passed = make(map[protocol.DaemonID]uint64)
	}
	cursor.NotePassed(s.passed, ev.DaemonID, sequence)
}

// names reports whether the event is addressed to this daemon, or to one that
// it answers for.
func (s *Session) names(ev event.Event) bool {
	return ev.DaemonID == s.cfg.Daemon || slices.Contains(s.answersFor, ev.DaemonID)
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
	case c.message.Sequence <= s.unnamed && !s.names(ev):
		return FilteredSettled
	case ev.DaemonID != "" && !s.names(ev):
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
	p.written, p.asked, p.repeat = false, s.inDoubt(p), repeat
	s.emit(Send{
		Run: s.run, Event: p.event, Stored: p.stored, Position: s.position(sequence), Redelivered: repeat, Ping: p.asked, Trace: p.trace,
	})
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
	s.wasWritten(sequence, p, now)
	if i == 0 {
		s.waitAnew(now)
	}
	// After a crash nobody has to know that an event which needs an ack was sent:
	// it is sent again in any case.
	if !p.event.RequiresAck {
		s.settle(i, now)
		s.dirty = true
	}
	s.pump(now)
}

func (s *Session) wasWritten(sequence uint64, p *pending, now time.Time) {
	p.written = true
	s.traceWritten(sequence, p, now)
	s.noteWrote(p, now)
}

// Withhold settles the event of a Send that may not be sent. Another connection
// of the daemon may have it.
func (s *Session) Withhold(run uint32, sequence uint64, now time.Time) {
	if run != s.run {
		return
	}
	if i, ok := s.window.find(sequence); ok {
		s.decline(i, "scopes", now)
		s.pump(now)
	}
}

// decline settles an event of the window that is not to be sent, or not again.
func (s *Session) decline(i int, why FilterReason, now time.Time) {
	it := s.window.items[i]
	s.note(it.first, it.pending, trace.None, trace.Hop{At: now, Step: trace.PassedOver, Detail: string(why)})
	s.notePassed(it.pending.event, it.first)
	s.settle(i, now)
}

func (s *Session) settle(i int, now time.Time) {
	s.window.settle(i)
	s.atOnce = min(s.atOnce+1, s.cfg.WindowEvents)
	if i == 0 {
		s.waitAnew(now)
	}
}

func (s *Session) deadLetter(sequence uint64, p *pending) {
	p.dead, p.deadLetterAt = true, time.Time{}
	s.emit(DeadLetter{Run: s.run, Sequence: sequence, Event: p.event, Body: p.body, Tries: p.vain, Trace: p.trace})
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
	s.traceGivenUp(sequence, s.window.items[i].pending, now)
	s.acknowledge(i, now)
	s.dirty = true
	s.pump(now)
}

// acknowledge settles the event at index i for whatever connection of the daemon
// may follow: that it was acknowledged, or stands in the dead letters, does not
// depend on what this one wants.
func (s *Session) acknowledge(i int, now time.Time) {
	it := s.window.items[i]
	s.acked = cursor.AddAcked(s.acked, cursor.Range{First: it.pending.after + 1, Last: it.last})
	s.settle(i, now)
}

// AnswersFor tells for whom the daemon speaks from now on. What names anybody
// else is not sent to it.
func (s *Session) AnswersFor(ids []protocol.DaemonID, now time.Time) {
	s.answersFor = ids
	s.settleWhere(FilteredAddressee, now, func(ev event.Event) bool { return ev.DaemonID != "" && !s.names(ev) })
	s.dirty = true
	s.pump(now)
}

// settleWhere settles events of the window that are not to be sent any more.
func (s *Session) settleWhere(why FilterReason, now time.Time, is func(event.Event) bool) {
	for i := 0; i < len(s.window.items); {
		if p := s.window.items[i].pending; p != nil && is(p.event) {
			s.decline(i, why, now)
			s.emit(Filtered{Why: why})
			i = 0
			continue
		}
		i++
	}
}

// Floor is the cursor: everything up to here is settled (invariant 3).
func (s *Session) Floor() uint64 {
	if len(s.window.items) > 0 {
		return s.window.items[0].first - 1
	}
	return s.complete
}

// Progress is what the cursor of this daemon should say now, and what has
// happened since the last call. It means something only while Running.
func (s *Session) Progress(now time.Time) cursor.Progress {
	e := cursor.Entry{
		Generation: s.generation, Floor: s.Floor(), Settled: s.window.settled(), Sends: s.sends, Sent: s.sent, Written: now,
		Subscriptions: slices.Clone(s.subscriptions), AnswersFor: s.answersFor,
	}
	if s.unnamed > e.Floor {
		e.Unnamed = s.unnamed
	}
	for _, r := range s.known {
		if r.First > s.complete {
			e.Settled = append(e.Settled, r)
		}
	}
	if len(s.window.items) > 0 {
		e.Sends = s.window.items[0].sends()
	} else if e.Sends.Sequence <= e.Floor {
		e.Sends = cursor.Sends{}
	}
	p := cursor.Progress{
		Epoch: s.epoch, Entry: e, Acked: s.acked, Passed: s.passed, Narrowed: s.narrowed, Awaited: s.awaited,
	}
	s.acked, s.passed, s.narrowed, s.considered = nil, nil, false, 0
	return p
}

// Unreported returns how many events were considered since the last Progress.
func (s *Session) Unreported() int { return s.considered }

// Epoch is the epoch in which Progress's sequences mean something.
func (s *Session) Epoch() eventlog.Epoch { return s.epoch }
