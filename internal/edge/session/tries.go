package session

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// A try is an event that was written to the socket. It is in vain if the ack
// timeout passes while the connection lives, or if the connection breaks. How
// often the oldest unsettled event was tried in vain is kept in the cursor; an
// event with MaxVainTries goes to the dead letters. A connection that ends
// gracefully says nothing about what was in hand, and an edge that crashes has
// no last word.
//
// A daemon that crashes does not say which event did it: the count is that of the
// oldest, and it may be another one. So an event that has been tried in vain
// twice is suspect. On the next connection events go out one at a time until it
// is settled, and then one more at once with each that is settled: those that did
// nothing are acknowledged, and the culprit is alone when it counts.
//
// Nor does a link that breaks say whether it has brought the event. So from then on
// it goes out right behind a ping, and is a try only when that has been answered:
// what crashes a daemon does so after the pong, and what never came makes no dead
// letter.

// carefulAfter is how many vain tries make an event suspect.
const carefulAfter = 2

// carefulAt is carefulAfter, but in any case before the last try.
func (s *Session) carefulAt() int { return min(carefulAfter, s.cfg.MaxVainTries-1) }

// inDoubt reports whether the event was tried in vain so often that a further try
// must be known to have reached the daemon.
func (s *Session) inDoubt(p *pending) bool { return p.event.RequiresAck && p.vain >= s.carefulAt() }

// Answered says that the daemon has answered the ping of a Send.
func (s *Session) Answered(run uint32, sequence uint64, now time.Time) {
	if run != s.run {
		return
	}
	if i, ok := s.window.find(sequence); ok {
		s.window.items[i].pending.asked = false
		if i == 0 {
			s.waitAnew(now)
		}
	}
}

// suspectOldest decides how a new connection begins.
func (s *Session) suspectOldest() {
	s.suspect, s.atOnce = 0, s.cfg.WindowEvents
	if s.sends.Sequence > 0 && s.sends.Count >= s.carefulAt() {
		s.suspect, s.atOnce = s.sends.Sequence, 1
	}
}

// careful reports whether the suspect has still to be settled.
func (s *Session) careful() bool {
	return s.suspect > s.complete || len(s.window.items) > 0 && s.window.items[0].first == s.suspect
}

// mostUnsettled is how many events may be unsettled at a time.
func (s *Session) mostUnsettled() int {
	if s.careful() {
		return 1
	}
	return s.atOnce
}

// Broke says that the connection has ended, and not gracefully: what the daemon
// had in hand was tried in vain. Where others were in hand, one of them may have
// broken it, which counts only until the event is suspect.
func (s *Session) Broke() {
	if len(s.window.items) == 0 {
		return
	}
	p := s.window.items[0].pending
	if p.inHand() && (p.vain < s.carefulAt() || s.window.inHand() == 1) {
		p.vain++
		s.dirty = true
	}
}

// oldestDue returns when something is to be done about the oldest unsettled
// event: the only one for which the ack clock runs, so that a daemon that works
// through its window one by one is not punished for a full one.
func (s *Session) oldestDue() time.Time {
	if len(s.window.items) == 0 {
		return time.Time{}
	}
	switch p := s.window.items[0].pending; {
	case p.dead:
		return p.deadLetterAt
	case p.inHand():
		due := s.ackClock.Add(s.cfg.AckTimeout)
		if longest := s.oldestSince.Add(s.patience()); longest.Before(due) {
			due = longest
		}
		if s.leftBehind {
			due = s.ackClock
		}
		if !s.silent(due) {
			return due
		}
	}
	return time.Time{}
}

// patience is how long the oldest unsettled event waits while the daemon is at others,
// until it is sent again: as long as it may take for a whole window. A daemon that works
// in an order of its own has come to it by then. One that has failed at it has nothing to
// say, and may be at others for as long as there are some.
func (s *Session) patience() time.Duration {
	return time.Duration(s.cfg.WindowEvents) * s.cfg.AckTimeout
}

func (s *Session) tickOldest(now time.Time) {
	due := s.oldestDue()
	if due.IsZero() || now.Before(due) {
		return
	}
	sequence, p := s.window.items[0].first, s.window.items[0].pending
	if !p.dead && s.silent(now) { // this tick comes late
		s.waitAnew(now)
		return
	}
	if s.leftBehind {
		s.leftBehind = false
		s.sendLeft(sequence, p, now)
		return
	}
	switch {
	case p.dead:
	case now.Before(s.ackClock.Add(s.cfg.AckTimeout)): // the daemon is at others: no try was in vain
		s.note(sequence, p, trace.Failed, trace.Hop{At: now, Step: trace.Unacknowledged, Detail: "in " + s.patience().String()})
	default:
		p.vain++
		s.dirty = true
		s.note(sequence, p, trace.Failed, trace.Hop{At: now, Step: trace.Unacknowledged, Detail: "in " + s.cfg.AckTimeout.String()})
	}
	if p.dead || p.vain >= s.cfg.MaxVainTries {
		s.deadLetter(sequence, p)
		return
	}
	s.behindAt = now
	p.again++
	s.send(sequence, p, true)
}

// sendLeft sends the oldest event again for want of an ack, where the one before it had
// to be sent again for that, and then was acknowledged: a daemon that has failed at that
// for a while, and is well again, has failed at what came with it, too, and would get one
// in an ack timeout. It is not held against the event. What was written later did not
// come with it: a daemon that works on one event after the other would be sent each
// again for as long as its window is full, and do everything twice.
func (s *Session) sendLeft(sequence uint64, p *pending, now time.Time) {
	if p.inHand() && s.wroteAt(p).Before(s.behindAt) && now.Sub(s.wroteAt(p)) >= s.cfg.AckTimeout {
		p.again++
		s.send(sequence, p, true)
	}
}

// noteWrote notes when an event was written.
func (s *Session) noteWrote(p *pending, now time.Time) {
	if s.firstWrote.IsZero() {
		s.firstWrote = now.Add(-1)
	}
	p.wrote = now.Sub(s.firstWrote)
}

// wroteAt is when an event was written last.
func (s *Session) wroteAt(p *pending) time.Time { return s.firstWrote.Add(p.wrote) }

// oldest returns the oldest unsettled event, or nil.
func (s *Session) oldest() *pending {
	if len(s.window.items) == 0 {
		return nil
	}
	return s.window.items[0].pending
}

// waitAnew gives the oldest unsettled event all of its time again.
func (s *Session) waitAnew(now time.Time) {
	s.oldestSince = now
	s.restartAckClock(now)
}

// restartAckClock gives the oldest unsettled event its time again for a sign that the
// daemon is at work, though maybe at others.
func (s *Session) restartAckClock(now time.Time) {
	if s.ackClock.Before(now) {
		s.ackClock = now
	}
}

// Heard says that the daemon has said something, whatever it was. Time in which
// nobody can tell whether it is there is not held against an event: a machine
// that sleeps, or a network that is cut without a word.
func (s *Session) Heard(now time.Time) {
	if s.silent(now) {
		s.waitAnew(now)
	}
	s.heard = now
}

// silent reports whether nobody could tell at that time, as far as is known now.
func (s *Session) silent(at time.Time) bool {
	return s.cfg.SilentAfter > 0 && !s.heard.IsZero() && at.Sub(s.heard) > s.cfg.SilentAfter
}

// InProgress says that the daemon is still working on these events, and returns
// how many of them are in the window. If any is, the ack clock starts again, for
// long enough that the next heartbeat may say so too.
func (s *Session) InProgress(ids []string, now time.Time) int {
	known := 0
	for i, it := range s.window.items {
		if it.pending != nil && slices.Contains(ids, it.pending.event.ID) {
			known++
			if i == 0 {
				s.waitAnew(now)
			}
		}
	}
	if known > 0 {
		s.restartAckClock(now.Add(max(0, s.cfg.SilentAfter-s.cfg.AckTimeout)))
	}
	if s.returning {
		s.survived = append(s.survived, ids...)
		s.survived = s.survived[max(0, len(s.survived)-protocol.MaxAckIDs):]
	}
	return known
}

// forgive takes back a vain try of an event that the daemon has said it is
// working on before it was sent it on this connection: the daemon has survived
// the one that broke.
func (s *Session) forgive(p *pending) {
	if p.vain > 0 && slices.Contains(s.survived, p.event.ID) {
		p.vain--
		s.dirty = true
	}
}
