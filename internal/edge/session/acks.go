package session

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// maxEarlyAcks is how many early acks are kept: more than a window holds. Over
// it the oldest is forgotten, which costs a repeat (invariant 4).
const maxEarlyAcks = protocol.MaxAckIDs

// maxEchoes is how many repeats are known that may be acknowledged yet.
const maxEchoes = protocol.MaxAckIDs

// Ack settles the events with these ids that are in the window and returns how
// many they were. Other ids are kept while the daemon may have such an event in
// hand from an earlier connection, see acknowledgedEarly, and else ignored: they
// were settled before, or will be sent again and acknowledged again.
func (s *Session) Ack(ids []string, now time.Time) int {
	acked, oldest, echoed := 0, s.oldest(), false
	for _, id := range ids {
		n := s.ackInWindow(id, now)
		switch {
		case n > 0:
			acked += n
		case s.isEcho(id):
			echoed = true
		case s.returning:
			s.early = append(s.early, id)
		}
	}
	s.early = s.early[max(0, len(s.early)-maxEarlyAcks):]
	if acked > 0 {
		s.leftBehind = s.leftBehind || oldest.again > 0 && s.oldest() != oldest
		s.restartAckClock(now)
		s.dirty = true
		s.pump(now)
	}
	if echoed {
		s.leftBehind, s.behindAt = false, time.Time{}
		s.restartAckClock(now)
	}
	return acked
}

// isEcho reports whether an ack is for a repeat of an event that has been acknowledged
// already: the daemon has not failed at it, but was late, and is at work.
func (s *Session) isEcho(id string) bool {
	i := slices.Index(s.echoes, id)
	if i >= 0 {
		s.echoes = slices.Delete(s.echoes, i, i+1)
	}
	return i >= 0
}

func (s *Session) ackInWindow(id string, now time.Time) int {
	acked := 0
	for i := 0; i < len(s.window.items); {
		if p := s.window.items[i].pending; p != nil && p.event.ID == id {
			sequence := s.window.items[i].first
			if !p.written && !p.dead {
				s.wasWritten(sequence, p, now) // the ack has overtaken the report of that
			}
			s.note(sequence, p, trace.None, trace.Hop{At: now, Step: trace.Acknowledged})
			for range p.again {
				s.echoes = append(s.echoes, id)
			}
			s.echoes = s.echoes[max(0, len(s.echoes)-maxEchoes):]
			s.acknowledge(i, now)
			acked++
			i = 0
			continue
		}
		i++
	}
	return acked
}

// acknowledgedEarly reports whether the daemon has acknowledged an event before
// it was considered: one that it got on an earlier connection, and was done with
// before this one had come so far.
func (s *Session) acknowledgedEarly(id string) bool {
	i := slices.Index(s.early, id)
	if i >= 0 {
		s.early = slices.Delete(s.early, i, i+1)
	}
	return i >= 0
}

// returned ends the time of early acks once all has been considered that was
// ever sent to the daemon.
func (s *Session) returned() {
	if s.complete >= s.sent {
		s.returning, s.early, s.survived = false, nil, nil
	}
}
