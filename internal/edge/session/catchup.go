package session

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// Check is the net under everything else: the log is asked for the newest
// sequence, whatever routers have said.
func (s *Session) Check(now time.Time) {
	if s.phase == phaseRunning && !s.asking && !s.reading {
		if s.complete >= s.target {
			s.cause = CauseNet
		}
		s.ask()
	}
}

// LastKnown is the answer to AskLast.
func (s *Session) LastKnown(run uint32, last eventlog.Last, now time.Time) {
	if run != s.run || !s.asking {
		return
	}
	s.asking = false
	if last.Sequence > s.complete {
		s.askNext = false
		s.target = max(s.target, last.Sequence)
		s.pump(now)
		return
	}
	// Nothing of ours stands in (complete, UpTo]: only this answer may raise
	// complete beyond what was read. What was hinted at up to there is gone.
	s.complete = max(s.complete, last.UpTo)
	s.announce(false)
	if s.complete >= s.target {
		s.caughtUp()
		return
	}
	// A replica that lags behind what is known to exist: ask again later.
	s.askNext = true
	s.retryAt = now.Add(s.backoff())
}

// AskFailed is the other answer to AskLast: it is asked again later.
func (s *Session) AskFailed(run uint32, now time.Time) {
	if run == s.run && s.asking {
		s.asking, s.askNext = false, true
		s.retryAt = now.Add(s.backoff())
	}
}

// ReadDone is the answer to Read: a prefix of the orchestrator's events from
// Read.From on, as one replica has them.
func (s *Session) ReadDone(run uint32, page eventlog.Page, now time.Time) {
	if run != s.run || !s.reading {
		return
	}
	s.reading = false
	count := uint64(len(page.Messages)) + page.Remaining
	if count > 0 {
		s.announce(count >= uint64(s.cfg.EventsPerOrchestrator))
	}
	before, held := s.complete, false
	arrival := s.hasRead(now)
	for _, m := range page.Messages {
		if m.Sequence <= s.complete {
			continue
		}
		c := NewCandidate(m)
		c.Came(arrival)
		if held = s.held(c, now); held || !s.fits(len(m.Body)) {
			s.target = max(s.target, m.Sequence)
			break
		}
		s.consider(c)
	}
	progress := s.complete > before
	if progress {
		s.retries = 0
	}
	if page.Remaining > 0 {
		s.target = max(s.target, s.complete+1)
	}
	switch {
	case s.complete >= s.target:
		s.caughtUp()
	case !held && s.blocked == 0 && page.Remaining == 0:
		// The read ended below what is known to exist: the replica lags, or the
		// rest has expired. Only a question to the log can tell.
		s.askNext = true
		if !progress {
			s.retryAt = now.Add(s.backoff())
		}
	}
	s.pump(now)
}

// ReadFailed is the other answer to Read: it is read again later.
func (s *Session) ReadFailed(run uint32, now time.Time) {
	if run == s.run && s.reading {
		s.reading = false
		s.retryAt = now.Add(s.backoff())
	}
}

// pump starts the next step of catching up if one is due.
func (s *Session) pump(now time.Time) {
	if s.phase != phaseRunning || s.asking || s.reading {
		return
	}
	if !s.retryAt.IsZero() {
		if now.Before(s.retryAt) {
			return
		}
		s.retryAt = time.Time{}
	}
	switch {
	case s.askNext || !s.announced && s.complete >= s.target:
		s.ask()
	case s.complete >= s.target:
		s.refillAt = time.Time{}
	case s.worthReading(now):
		s.refillAt = time.Time{}
		s.read()
	}
}

func (s *Session) ask() {
	s.asking, s.askNext, s.retryAt = true, false, time.Time{}
	s.emit(AskLast{Run: s.run, Cause: s.cause})
}

func (s *Session) read() {
	s.reading = true
	s.blocked = 0
	s.emit(Read{
		Run: s.run, From: s.complete + 1, Cause: s.cause,
		MaxEvents: max(1, s.mostUnsettled()-s.window.unsettled),
		MaxBytes:  max(1, s.cfg.WindowBytes-s.window.bytes),
	})
}

// worthReading reports whether the window has room for a read: at once when
// half of it is free, a little later when it is less.
func (s *Session) worthReading(now time.Time) bool {
	if s.blocked == 0 {
		return true
	}
	if !s.hasRoom(s.blocked) {
		s.refillAt = time.Time{}
		return false
	}
	if s.window.unsettled <= s.mostUnsettled()/2 && s.window.bytes <= s.cfg.WindowBytes/2 {
		return true
	}
	if s.refillAt.IsZero() {
		s.refillAt = now.Add(refillDelay)
	}
	return !now.Before(s.refillAt)
}

func (s *Session) caughtUp() {
	s.target = s.complete
	s.retries, s.askNext, s.blocked = 0, false, 0
	s.retryAt, s.refillAt = time.Time{}, time.Time{}
	s.returned()
}

func (s *Session) announce(truncated bool) {
	if s.announced {
		return
	}
	s.emit(s.subscribed(truncated))
	s.announced = true
}

func (s *Session) subscribed(truncated bool) Subscribed {
	return Subscribed{First: !s.announced, Position: s.Position(), Resumed: s.resumed, Truncated: truncated}
}
