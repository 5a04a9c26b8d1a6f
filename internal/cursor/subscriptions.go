package cursor

import (
	"cmp"
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// everything is the subscription to which nothing can be added.
var everything = []protocol.Subscription{{Pattern: protocol.AllEvents}}

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
		return everything
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
	return everything
}

func subscriptionBytes(subs []protocol.Subscription) int {
	n := 0
	for _, s := range subs {
		n += storedBytes(string(s.Pattern))
		for _, c := range s.Channels {
			n += storedBytes(c)
		}
	}
	return n
}
