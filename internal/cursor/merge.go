package cursor

import (
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// merge joins two states of the same daemon in the same epoch: what is settled
// in either is settled. The inputs are not modified.
//
// It is commutative, associative and idempotent in floor, ranges,
// subscriptions, Sent and Written, until a bound is reached. Then the order
// decides which ranges above the floor are forgotten, but nothing is ever
// claimed that neither had settled.
func merge(a, b Entry, lim limits) Entry {
	if b.Written.Before(a.Written) {
		a, b = b, a // the older first: its ids are forgotten first
	}
	m := Entry{
		Subscriptions: unite(lim, a.Subscriptions, b.Subscriptions),
		AnswersFor:    appendIDs(lim, a.AnswersFor, b.AnswersFor...),
		Sent:          max(a.Sent, b.Sent),
		Unnamed:       max(a.Unnamed, b.Unnamed),
		Written:       b.Written,
	}
	m.Floor, m.Settled = normalize(max(a.Floor, b.Floor), slices.Concat(a.Settled, b.Settled), lim.ranges)
	m.Sends = olderSends(m, a.Sends, b.Sends)
	return m
}

// olderSends chooses the count that concerns the older event that e has not
// settled; for the same sequence, the higher.
func olderSends(e Entry, a, b Sends) Sends {
	if e.Settles(a.Sequence) {
		a = Sends{}
	}
	if e.Settles(b.Sequence) {
		b = Sends{}
	}
	switch {
	case b.Sequence == 0, a.Sequence == b.Sequence && a.Count >= b.Count, a.Sequence != 0 && a.Sequence < b.Sequence:
		return a
	default:
		return b
	}
}

// appendIDs adds those ids that are not there yet and forgets the first ones
// beyond the bounds.
func appendIDs(lim limits, ids []protocol.DaemonID, more ...protocol.DaemonID) []protocol.DaemonID {
	all := slices.Clip(ids)
	for _, id := range more {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	all = all[max(0, len(all)-lim.answers):]
	oldest, room := len(all), lim.answerBytes
	for oldest > 0 {
		if room -= storedBytes(string(all[oldest-1])); room < 0 {
			break
		}
		oldest--
	}
	return all[oldest:]
}
