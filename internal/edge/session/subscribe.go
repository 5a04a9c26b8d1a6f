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

// Subscribe adds to the connection's subscriptions. The first decides, a moment
// after the last of a series, where the connection starts. A series is complete
// without waiting where there is nothing more to be wanted.
func (s *Session) Subscribe(added []protocol.Subscription, now time.Time) {
	if len(added) == 0 {
		return
	}
	for _, sub := range added {
		s.add(sub)
	}
	switch s.phase {
	case phaseNew:
		s.phase, s.startBy = phaseGathering, now.Add(cmp.Or(s.cfg.SeriesTime, subscribeSettleMost))
		fallthrough
	case phaseGathering:
		s.startAt = now.Add(subscribeSettle)
		if s.startAt.After(s.startBy) {
			s.startAt = s.startBy
		}
		if cursor.Covers(s.subscriptions, everything) {
			s.phase, s.startAt, s.startBy = phaseStarting, time.Time{}, now
			s.begin(now)
		}
	case phaseStarting:
		if !s.startAt.IsZero() { // waiting to try again, maybe for just this
			s.startAt = now.Add(subscribeSettle)
		}
		s.dirty, s.urgent = true, true // the start under way may not know of it
	case phaseRunning:
		// Until it is known that the daemon wants more, whoever wants less may take
		// it over if this edge crashes, and pass what only the daemon wants.
		s.dirty, s.urgent = true, true
	}
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
	s.subscriptions = slices.DeleteFunc(s.subscriptions, func(have protocol.Subscription) bool {
		return slices.Contains(patterns, have.Pattern)
	})
	if s.phase != phaseRunning {
		return
	}
	s.settleWhere(FilteredSubscription, now, func(ev event.Event) bool { return !s.wants(ev) })
	s.dirty = true
	s.pump(now)
}
