package session

import (
	"cmp"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// everything is the subscription to which nothing can be added.
var everything = []protocol.Subscription{{Pattern: protocol.AllEvents}}

// Subscribe adds to the connection's subscriptions. The first asks for the start
// of the connection. The rest of a series is not waited for where the daemon is
// not known to want more (see Begin): a start passes nothing by itself, its answer
// takes some milliseconds, within which the rest usually comes, and what comes
// later still is told to the cursor at once, as any subscribe is. What the daemon
// may be about to want is not passed meanwhile (see held).
func (s *Session) Subscribe(added []protocol.Subscription, now time.Time) {
	if len(added) == 0 {
		return
	}
	wider := !cursor.Covers(s.subscriptions, added)
	for _, sub := range added {
		s.add(sub)
	}
	first := s.phase == phaseNew
	if first {
		s.phase, s.startBy = phaseStarting, now.Add(cmp.Or(s.cfg.SeriesTime, subscribeSettleMost))
	}
	s.goOn(first, now)
	switch {
	case first:
		s.begin(now)
	case s.phase == phaseStarting:
		if !s.startAt.IsZero() { // waiting to try again, maybe for just this
			s.startAt = s.seriesUntil
		}
		s.urgent = s.urgent || wider // the start under way may not know of it
	case wider && !s.announced:
		s.startAgain(now)
	default:
		// Until it is known that the daemon wants more, whoever wants less may take
		// it over if this edge crashes, and pass what only the daemon wants: such
		// events are sent meanwhile, but nobody has promised them (see Confirm).
		s.dirty, s.urgent = true, true
	}
}

// Confirm asks for the daemon to be told when all that it has subscribed to so far is in
// the record, so that nothing of it is passed from there on, whatever fails (invariant 1).
// The start does so by itself.
func (s *Session) Confirm() {
	if s.announced {
		s.dirty, s.urgent, s.awaited = true, true, true
	}
}

// Recorded says that the record has come to say all that the daemon wants now.
func (s *Session) Recorded() {
	if s.awaited {
		s.awaited = false
		s.emit(s.subscribed(false))
	}
}

// goOn says until when the series of subscribes may go on. It is complete where
// there is nothing more to be wanted.
func (s *Session) goOn(first bool, now time.Time) {
	switch {
	case cursor.Covers(s.subscriptions, everything):
		s.startBy, s.seriesUntil = now, now
	case first || now.Before(s.seriesUntil) || s.phase == phaseStarting:
		if s.seriesUntil = now.Add(subscribeSettle); s.seriesUntil.After(s.startBy) {
			s.seriesUntil = s.startBy
		}
	}
}

// held reports whether an event is to be considered only later: nothing that the
// daemon has subscribed to matches it, and the next of its series of subscribes may
// (invariant 1).
func (s *Session) held(c *Candidate, now time.Time) bool {
	if !now.Before(s.seriesUntil) {
		return false
	}
	ev, err := c.parse()
	if err != nil || s.wants(ev) {
		return false
	}
	s.retryAt = s.seriesUntil
	return true
}

// add joins a subscription with one of the same pattern: the channels of both,
// or all channels if either has no list.
func (s *Session) add(sub protocol.Subscription) {
	i := slices.IndexFunc(s.subscriptions, func(have protocol.Subscription) bool { return have.Pattern == sub.Pattern })
	if i < 0 {
		sub.Channels = slices.Clone(sub.Channels)
		s.subscriptions = append(s.subscriptions, sub)
		return
	}
	have := &s.subscriptions[i]
	if len(have.Channels) == 0 || len(sub.Channels) == 0 {
		have.Channels = nil
		return
	}
	for _, channel := range sub.Channels {
		if !slices.Contains(have.Channels, channel) {
			have.Channels = append(have.Channels, channel)
		}
	}
}

// Unsubscribe removes subscriptions by pattern. What is in the window and
// matches none any more is settled: it will not be sent again.
func (s *Session) Unsubscribe(patterns []protocol.Pattern, now time.Time) {
	before := len(s.subscriptions)
	s.subscriptions = slices.DeleteFunc(s.subscriptions, func(have protocol.Subscription) bool {
		return slices.Contains(patterns, have.Pattern)
	})
	s.narrowed = s.narrowed || len(s.subscriptions) < before
	if s.phase != phaseRunning {
		return
	}
	s.settleWhere(FilteredSubscription, now, func(ev event.Event) bool { return !s.wants(ev) })
	s.dirty = true
	s.pump(now)
}

// Rescope says that the scopes of the token have changed: of what the daemon has
// subscribed to it may be sent more than before, and maybe less. Whoever may take it
// over has to know of the first (see startAgain), and of the other whom it speaks for.
func (s *Session) Rescope(less bool) {
	s.narrowed = s.narrowed || less
	s.dirty, s.urgent = true, true
}
