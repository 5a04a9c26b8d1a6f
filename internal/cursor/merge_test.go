package cursor

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const lawRuns = 5000

func TestMerge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ a, b, want Entry }{
		"higher floor wins":            {Entry{Floor: 5}, Entry{Floor: 9}, Entry{Floor: 9}},
		"a range below the floor goes": {Entry{Floor: 9}, Entry{Settled: []Range{{3, 7}}}, Entry{Floor: 9}},
		"a range at the floor lifts it": {
			Entry{Floor: 9}, Entry{Settled: []Range{{3, 12}}}, Entry{Floor: 12}},
		"a range right after the floor lifts it": {
			Entry{Floor: 9}, Entry{Settled: []Range{{10, 12}, {14, 14}}}, Entry{Floor: 12, Settled: []Range{{14, 14}}}},
		"adjacent and overlapping ranges are joined": {
			Entry{Settled: []Range{{3, 5}, {20, 30}}}, Entry{Settled: []Range{{6, 7}, {25, 40}}},
			Entry{Settled: []Range{{3, 7}, {20, 40}}}},
		"the count of the older unsettled event stays": {
			Entry{Floor: 4, Sends: Sends{5, 50, 2}}, Entry{Floor: 4, Sends: Sends{8, 50, 4}}, Entry{Floor: 4, Sends: Sends{5, 50, 2}}},
		"the count of a settled event goes": {
			Entry{Floor: 4, Sends: Sends{5, 50, 2}}, Entry{Floor: 6, Sends: Sends{8, 50, 4}}, Entry{Floor: 6, Sends: Sends{8, 50, 4}}},
		"the higher count of the same event": {
			Entry{Sends: Sends{5, 50, 2}}, Entry{Sends: Sends{5, 50, 4}}, Entry{Sends: Sends{5, 50, 4}}},
		"sent and subscriptions are united": {
			Entry{Sent: 5, Subscriptions: subs("a.*")}, Entry{Sent: 3, Subscriptions: subs("b.x", "a.*")},
			Entry{Sent: 5, Subscriptions: subs("a.*", "b.x")}},
		"ids once, those of the older first": {
			Entry{AnswersFor: ids("c", "a"), Written: time.Unix(2, 0)}, Entry{AnswersFor: ids("b", "a"), Written: time.Unix(1, 0)},
			Entry{AnswersFor: ids("b", "a", "c"), Written: time.Unix(2, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := cloneEntry(c.a), cloneEntry(c.b)
			require.Equal(t, c.want, mergeOf(a, b))
			require.Equal(t, c.want, mergeOf(b, a), "the other way round")
			require.Equal(t, c.a, a, "input")
			require.Equal(t, c.b, b, "input")
		})
	}
}

// TestMergeLaws: any two edges that have seen the same states, in any order and
// however often, hold the same state; and nothing is claimed to be settled
// that none had settled (invariant 3), whatever has to be forgotten.
func TestMergeLaws(t *testing.T) {
	t.Parallel()
	for seed := range uint64(lawRuns) {
		r := rand.New(rand.NewPCG(seed, 2))
		a, b, c := randomEntry(r), randomEntry(r), randomEntry(r)
		ab := mergeOf(a, b)
		require.Equal(t, law(ab), law(mergeOf(b, a)), "commutative, seed %d", seed)
		require.Equal(t, law(mergeOf(ab, c)), law(mergeOf(a, mergeOf(b, c))), "associative, seed %d", seed)
		require.Equal(t, ab, mergeOf(ab, ab), "idempotent, seed %d", seed)
		require.Equal(t, law(ab), law(mergeOf(ab, b)), "absorbs, seed %d", seed)
		for q := range uint64(60) {
			require.Equal(t, a.Settles(q) || b.Settles(q), ab.Settles(q), "sequence %d, seed %d", q, seed)
		}
		few := merge(a, b, limits{ranges: 2, entries: 2, answers: 2, answerBytes: 100, subscriptionBytes: 10, awaited: 2})
		require.LessOrEqual(t, len(few.Settled), 2)
		require.Equal(t, ab.Floor, few.Floor, "seed %d", seed)
		require.Equal(t, ab.Settled[:len(few.Settled)], append([]Range(nil), few.Settled...), "the lowest stay, seed %d", seed)
		require.True(t, Covers(few.Subscriptions, ab.Subscriptions), "wider, seed %d", seed)
	}
}

func TestMergeKeepsTheLowestRanges(t *testing.T) {
	t.Parallel()
	var e Entry
	for i := range uint64(2 * MaxRanges) {
		e.Settled = append(e.Settled, Range{10 * (i + 1), 10*(i+1) + 5})
	}
	require.Equal(t, e.Settled[:MaxRanges], mergeOf(e, Entry{}).Settled)
}

func TestIntersect(t *testing.T) {
	t.Parallel()
	for seed := range uint64(lawRuns) {
		r := rand.New(rand.NewPCG(seed, 3))
		a, b := randomEntry(r), randomEntry(r)
		var both Entry
		both.Floor, both.Settled = intersect(a, b, MaxRanges)
		for q := range uint64(60) {
			require.Equal(t, a.Settles(q) && b.Settles(q), both.Settles(q), "sequence %d, seed %d", q, seed)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	in := func(pattern protocol.Pattern, channels ...string) protocol.Subscription {
		return protocol.Subscription{Pattern: pattern, Channels: channels}
	}
	list := func(s ...protocol.Subscription) []protocol.Subscription { return s }
	for name, c := range map[string]struct {
		a, b []protocol.Subscription
		want bool
	}{
		"nothing wanted":          {nil, nil, true},
		"nothing had":             {nil, subs("a.x"), false},
		"everything":              {subs("*"), subs("a.x", "b.*", "*"), true},
		"the same":                {subs("a.x", "b.*"), subs("b.*", "a.x"), true},
		"a prefix":                {subs("a.*"), subs("a.x", "a.*"), true},
		"one of two":              {subs("a.*"), subs("a.x", "b.x"), false},
		"everything is not parts": {subs("a.*", "b.*"), subs("*"), false},
		"channels of all":         {list(in("a.*")), list(in("a.x", "1")), true},
		"all of channels":         {list(in("a.*", "1")), list(in("a.x")), false},
		"fewer channels":          {list(in("a.*", "1", "2")), list(in("a.x", "2")), true},
		"other channels":          {list(in("a.*", "1")), list(in("a.x", "2")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, Covers(c.a, c.b))
		})
	}
}

// TestUnite: what is kept of subscriptions passes whatever they pass.
func TestUnite(t *testing.T) {
	t.Parallel()
	in := func(pattern protocol.Pattern, channels ...string) protocol.Subscription {
		return protocol.Subscription{Pattern: pattern, Channels: channels}
	}
	long := strings.Repeat("c", MaxSubscriptionBytes)
	var many []protocol.Subscription
	for i := range 200 {
		many = append(many, in(protocol.Pattern(strings.Repeat("p", 20+i)+".*")))
	}
	for name, c := range map[string]struct{ a, b, want []protocol.Subscription }{
		"none":                {nil, nil, nil},
		"channels of both":    {subs(), []protocol.Subscription{in("a.x", "2", "1"), in("a.x", "3", "1")}, []protocol.Subscription{in("a.x", "1", "2", "3")}},
		"one without":         {[]protocol.Subscription{in("a.x", "1")}, subs("a.x"), subs("a.x")},
		"one without, before": {subs("a.x"), []protocol.Subscription{in("a.x", "1")}, subs("a.x")},
		"everything":          {subs("a.x"), subs("*"), subs("*")},
		"everything in some":  {subs("a.x"), []protocol.Subscription{in("*", "1")}, []protocol.Subscription{in("*", "1"), in("a.x")}},
		"too long a channel":  {[]protocol.Subscription{in("a.x", long)}, subs("b.x"), subs("a.x", "b.x")},
		"too many patterns":   {many, slices.Repeat(many, 2), subs("*")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := unite(defaultLimits, c.a, c.b)
			require.Equal(t, c.want, got)
			require.True(t, Covers(got, c.a) && Covers(got, c.b))
		})
	}
}

func mergeOf(a, b Entry) Entry { return merge(a, b, defaultLimits) }

// law is what the laws of Merge speak of.
func law(e Entry) Entry {
	e.Sends, e.AnswersFor = Sends{}, slices.Sorted(slices.Values(e.AnswersFor))
	return e
}

func randomEntry(r *rand.Rand) Entry {
	e := Entry{Floor: r.Uint64N(12), Sent: r.Uint64N(40), Written: time.UnixMilli(r.Int64N(4)).UTC()}
	for range r.IntN(6) {
		first := r.Uint64N(50)
		e.Settled = append(e.Settled, Range{first, first + r.Uint64N(4)})
	}
	for range r.IntN(3) {
		e.Subscriptions = append(e.Subscriptions, protocol.Subscription{
			Pattern:  []protocol.Pattern{"a.x", "a.*", "b.x", "*"}[r.IntN(4)],
			Channels: [][]string{nil, {"1"}, {"2", "1"}}[r.IntN(3)],
		})
		e.AnswersFor = append(e.AnswersFor, ids("p", "q", "r")[r.IntN(3)])
	}
	return mergeOf(e, Entry{})
}

func subs(patterns ...protocol.Pattern) []protocol.Subscription {
	var list []protocol.Subscription
	for _, p := range patterns {
		list = append(list, protocol.Subscription{Pattern: p})
	}
	return list
}

func ids(list ...protocol.DaemonID) []protocol.DaemonID { return list }

func cloneEntry(e Entry) Entry {
	e.Settled, e.AnswersFor = slices.Clone(e.Settled), slices.Clone(e.AnswersFor)
	e.Subscriptions = slices.Clone(e.Subscriptions)
	return e
}
