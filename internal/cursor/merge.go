package cursor

import (
	"cmp"
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Merge joins two states of the same daemon in the same epoch, as when two
// edges have written it or an own state is applied onto what was read. The
// inputs are not modified.
//
// Laws: what is settled in the result is what is settled in either, and so
// Merge is commutative, associative and idempotent in floor, ranges,
// subscriptions, Sent and Written. It stays so until a bound is reached; then
// the order decides which ranges above the floor are forgotten, never whether
// something is claimed that neither had settled. Subscriptions are united:
// they narrow only at the next Start, so that the last words of an older
// connection of the same daemon cannot hide what the newer one wants.
func Merge(a, b Entry) Entry { return merge(a, b, defaultLimits) }

func merge(a, b Entry, lim limits) Entry {
	if b.Written.Before(a.Written) {
		a, b = b, a // the older first: its ids are forgotten first
	}
	m := Entry{
		Subscriptions: unite(lim, a.Subscriptions, b.Subscriptions),
		AnswersFor:    appendIDs(lim, a.AnswersFor, b.AnswersFor...),
		Sent:          max(a.Sent, b.Sent),
		// The newer knows; of two at once the one that does not claim too much.
		Left:    b.Left && (a.Left || a.Written.Before(b.Written)),
		Written: b.Written,
	}
	m.Floor, m.Settled = normalize(max(a.Floor, b.Floor), slices.Concat(a.Settled, b.Settled), lim.ranges)
	m.Sends = olderSends(m, a.Sends, b.Sends)
	return m
}

// olderSends chooses the count that concerns the older event that e has not
// settled; for the same event, the higher.
func olderSends(e Entry, a, b Sends) Sends {
	if e.Settles(a.Sequence) {
		a = Sends{}
	}
	if e.Settles(b.Sequence) {
		b = Sends{}
	}
	switch {
	case a.Sequence == b.Sequence:
		return Sends{a.Sequence, max(a.Count, b.Count)}
	case b.Sequence == 0 || a.Sequence != 0 && a.Sequence < b.Sequence:
		return a
	default:
		return b
	}
}

// Covers reports whether each of b is covered by some of a: a daemon
// subscribed to a is sent all that one subscribed to b is.
func Covers(a, b []protocol.Subscription) bool {
	return !slices.ContainsFunc(b, func(wanted protocol.Subscription) bool {
		return !slices.ContainsFunc(a, func(s protocol.Subscription) bool { return s.Covers(wanted) })
	})
}

// unite returns the subscriptions of all lists, one for each pattern, sorted.
// If they are too long the result is wider than that.
func unite(lim limits, lists ...[]protocol.Subscription) []protocol.Subscription {
	channels := make(map[protocol.Pattern][]string) // empty: all
	for _, list := range lists {
		for _, s := range list {
			known, seen := channels[s.Pattern]
			if len(s.Channels) == 0 || seen && len(known) == 0 {
				channels[s.Pattern] = nil
			} else {
				channels[s.Pattern] = slices.Concat(known, s.Channels)
			}
		}
	}
	if all, ok := channels[protocol.AllEvents]; ok && len(all) == 0 {
		return []protocol.Subscription{{Pattern: protocol.AllEvents}}
	}
	var united []protocol.Subscription
	for pattern, of := range channels {
		slices.Sort(of)
		united = append(united, protocol.Subscription{Pattern: pattern, Channels: slices.Compact(of)})
	}
	slices.SortFunc(united, func(a, b protocol.Subscription) int {
		return cmp.Compare(a.Pattern, b.Pattern)
	})
	return widen(lim, united)
}

// widen replaces what is too long to be kept by something that covers it: an
// entry then asks for more than its daemon does, which only delays a takeover.
func widen(lim limits, subs []protocol.Subscription) []protocol.Subscription {
	if subscriptionBytes(subs) <= lim.subscriptionBytes {
		return subs
	}
	wider := slices.Clone(subs)
	for i := range wider {
		wider[i].Channels = nil
	}
	if subscriptionBytes(wider) <= lim.subscriptionBytes {
		return wider
	}
	return []protocol.Subscription{{Pattern: protocol.AllEvents}}
}

func subscriptionBytes(subs []protocol.Subscription) int {
	const quotes = 3 // two and a comma
	n := 0
	for _, s := range subs {
		n += len(s.Pattern) + quotes
		for _, c := range s.Channels {
			n += len(c) + quotes
		}
	}
	return n
}

// appendIDs adds those ids that are not there yet and forgets the first ones
// beyond the bound.
func appendIDs(lim limits, ids []protocol.DaemonID, more ...protocol.DaemonID) []protocol.DaemonID {
	all := slices.Clip(ids)
	for _, id := range more {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all[max(0, len(all)-lim.answers):]
}
