package cursor

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// of returns an entry of a generation, held by an edge.
func of(generation, floor uint64, edge string, change ...func(*Entry)) Entry {
	return entryOf(floor, append(change, func(e *Entry) { e.Generation, e.Edge = generation, edge })...)
}

func names(list ...protocol.DaemonID) func(*Entry) { return func(e *Entry) { e.AnswersFor = list } }

func settled(ranges ...Range) func(*Entry) { return func(e *Entry) { e.Settled = ranges } }

func wants(patterns ...protocol.Pattern) func(*Entry) {
	return func(e *Entry) { e.Subscriptions = subs(patterns...) }
}

// TestApply: what a connection of daemon "d" reports, and the record afterwards.
func TestApply(t *testing.T) {
	t.Parallel()
	type entries = map[protocol.DaemonID]Entry
	before := entries{"d": of(3, 5, here, names("c")), "e": of(2, 7, there)}
	for name, c := range map[string]struct {
		stored  entries // before, if nil
		report  Progress
		want    entries // as stored, if nil
		epoch   eventlog.Epoch
		awaited map[protocol.DaemonID]uint64
		// presumed are the daemons that were taken for gone when they were taken over.
		presumed map[protocol.DaemonID]uint64
		// lost: the record does not know of the connection's start.
		lost bool
	}{
		"its own generation: what it says holds, but for its names": {
			report: Progress{Entry: of(3, 6, here, settled(Range{8, 9}))},
			want:   entries{"d": of(3, 6, here, settled(Range{8, 9}), names("c")), "e": before["e"]},
		},
		"what was acknowledged beside it stays": {
			stored: entries{"d": of(3, 5, here, settled(Range{7, 8}))},
			report: Progress{Entry: of(3, 6, here)},
			want:   entries{"d": of(3, 8, here)},
		},
		"it wants less than those it speaks for: they are handed back, as they stood before": {
			stored: entries{"d": of(3, 5, here, names("b", "c"), wants("a.*", "b.*"))},
			report: Progress{Entry: of(3, 6, here, names("b", "c"), wants("a.*"))},
			want:   entries{"d": of(3, 6, here, wants("a.*")), "c": of(3, 5, "", names("b"), wants("a.*", "b.*"))},
		},
		"it has wanted less for a while, and passed over what they want": {
			stored: entries{"d": of(3, 5, here, names("b", "c"))},
			report: Progress{Entry: of(3, 6, here, names("b", "c")), Narrowed: true},
			want:   entries{"d": of(3, 6, here), "c": of(3, 5, "", names("b"))},
		},
		"an older one is stored, as after a backup, and it wants less by now": {
			stored: entries{"d": of(1, 5, here, names("c"), wants("a.*", "b.*"))},
			report: Progress{Entry: of(3, 6, here, wants("a.*"))},
			want:   entries{"d": of(3, 6, here, wants("a.*")), "c": of(3, 5, "", names([]protocol.DaemonID{}...), wants("a.*", "b.*"))},
			lost:   true,
		},
		"it wants less, and one that it speaks for has an entry, which it had resumed above": {
			stored: entries{"d": of(3, 9, here, names("c", "e"), wants("a.*", "b.*")), "e": of(2, 7, "", wants("a.*", "b.*"))},
			report: Progress{Entry: of(3, 9, here, wants("a.*"))},
			want: entries{"d": of(3, 9, here, wants("a.*")), "e": of(2, 7, "", wants("a.*", "b.*")),
				"c": of(3, 9, "", names([]protocol.DaemonID{}...), wants("a.*", "b.*"))},
		},
		"its last word": {
			report: Progress{Entry: of(3, 6, "")},
			want:   entries{"d": of(3, 6, "", names("c")), "e": before["e"]},
		},
		"a newer generation is stored: the floor does not count, nor what it passed over": {
			report: Progress{Entry: of(2, 50, here), Passed: map[protocol.DaemonID]uint64{"new": 8}},
		},
		"but what was acknowledged does": {
			report: Progress{Entry: of(2, 50, here), Acked: []Range{{6, 6}, {9, 10}}},
			want:   entries{"d": of(3, 6, here, settled(Range{9, 10}), names("c")), "e": before["e"]},
		},
		"and not that it has left": {report: Progress{Entry: of(2, 50, "")}},
		"an older one is stored, as after a backup: its floor was not this one's": {
			stored: entries{"d": of(1, 30, here)},
			report: Progress{Entry: of(3, 6, here)},
			want:   entries{"d": of(3, 6, here)}, lost: true,
		},
		"none is stored: the last release wrote it": {
			stored: entries{"d": of(0, 5, UnknownEdge, names("c"), settled(Range{8, 9}))},
			report: Progress{Entry: of(3, 6, here)},
			want:   entries{"d": of(3, 6, here, names("c"), settled(Range{8, 9}))},
		},
		"taken over while it lives: put back, with its names": {
			stored: entries{"e": of(9, 4, there, names("b", "c", "d")), "b": of(8, 3, here)},
			report: Progress{Entry: of(3, 6, here, names("b", "c"))}, presumed: map[protocol.DaemonID]uint64{"d": 3},
			want: entries{"d": of(3, 6, here, names("c")), "e": of(9, 4, there, names("b")), "b": of(8, 3, here)},
		},
		"taken over, and gone since: the successor is right": {
			stored: entries{"e": of(9, 4, there, names("d"))},
			report: Progress{Entry: of(3, 6, "")},
		},
		"taken over after it was replaced: not put back": {
			stored: entries{"e": of(9, 4, there, names("d"))},
			report: Progress{Entry: of(3, 50, here)}, presumed: map[protocol.DaemonID]uint64{"d": 4},
		},
		"without an entry, and nobody answers for it, as after the bucket was lost: put back": {
			stored: entries{"e": of(9, 4, there)},
			report: Progress{Entry: of(3, 6, here)},
			want:   entries{"d": of(3, 6, here), "e": of(9, 4, there)}, lost: true,
		},
		"and if it has left meanwhile": {
			stored: entries{"e": of(9, 4, there)},
			report: Progress{Entry: of(3, 6, "")},
			want:   entries{"d": of(3, 6, ""), "e": of(9, 4, there)}, lost: true,
		},
		"taken over after it was replaced by one that left: not put back": {
			stored: entries{"e": of(9, 4, there, names("d"))},
			report: Progress{Entry: of(3, 50, here), Acked: []Range{{6, 6}}},
		},
		"abandoned: it has left": {
			report: Progress{Entry: Entry{Generation: 3}, Abandoned: true},
			want:   entries{"d": of(3, 5, "", names("c")), "e": before["e"]},
		},
		"abandoned, and never stored": {report: Progress{Entry: Entry{Generation: 4}, Abandoned: true}},
		"abandoned, and taken over":   {stored: entries{"e": before["e"]}, report: Progress{Entry: Entry{Generation: 3}, Abandoned: true}},
		"a newer epoch: the floors of all mean nothing": {
			report: Progress{Epoch: epoch1, Entry: of(3, 2, here)}, epoch: epoch1,
			want: entries{"d": of(3, 2, here, names("c")), "e": of(2, 0, there)},
		},
		"an older epoch means nothing": {report: Progress{Epoch: eventlog.NewEpoch(time.Unix(0, 0), 0), Entry: of(3, 50, here)}},
		"but that it was the last word does": {
			report: Progress{Epoch: eventlog.NewEpoch(time.Unix(0, 0), 0), Entry: of(3, 50, "")},
			want:   entries{"d": of(3, 5, "", names("c")), "e": before["e"]},
		},
		"events that name a daemon never seen are noted": {
			report:  Progress{Entry: of(3, 6, here), Passed: map[protocol.DaemonID]uint64{"new": 6, "e": 4}},
			want:    entries{"d": of(3, 6, here, names("c")), "e": before["e"]},
			awaited: map[protocol.DaemonID]uint64{"new": 6},
		},
		"those that name one it answers for too: it did not want them": {
			report:  Progress{Entry: of(3, 6, here), Passed: map[protocol.DaemonID]uint64{"c": 6}},
			want:    entries{"d": of(3, 6, here, names("c")), "e": before["e"]},
			awaited: map[protocol.DaemonID]uint64{"c": 6},
		},
		"those that name one whom another answers for are its matter": {
			stored: entries{"d": of(3, 5, here), "e": of(2, 4, there, names("c"))},
			report: Progress{Entry: of(3, 6, here), Passed: map[protocol.DaemonID]uint64{"c": 6}},
			want:   entries{"d": of(3, 6, here), "e": of(2, 4, there, names("c"))},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.stored == nil {
				c.stored = before
			}
			if c.want == nil {
				c.want = c.stored
			}
			if c.epoch == "" {
				c.epoch = epoch0
			}
			if c.report.Epoch == "" {
				c.report.Epoch = epoch0
			}
			rec := recordOf(c.stored)
			rec.Presumed = c.presumed
			next := rec.Apply("d", c.report)
			require.Equal(t, c.want, next.Daemons)
			require.Equal(t, c.epoch, next.Epoch)
			require.Len(t, next.Awaited, len(c.awaited))
			for id, from := range c.awaited {
				require.Equal(t, from, next.Awaited[id].From)
			}
			require.Equal(t, c.lost, !next.Lost.Since.IsZero(), "lost")
			require.Equal(t, c.stored, rec.Daemons, "input")
			again := next.Apply("d", c.report)
			require.Equal(t, next.Daemons, again.Daemons, "twice as once")
		})
	}
}

func TestReportsOfOneConnectionJoin(t *testing.T) {
	t.Parallel()
	first := Progress{Epoch: epoch0, Entry: of(3, 5, here), Acked: []Range{{6, 6}}, Passed: map[protocol.DaemonID]uint64{"a": 4, "b": 5}}
	first.Narrowed = true
	second := Progress{Epoch: epoch0, Entry: of(3, 8, ""), Awaited: true, Acked: []Range{{7, 8}}, Passed: map[protocol.DaemonID]uint64{"b": 7, "c": 8}}
	require.Equal(t, Progress{
		Epoch: epoch0, Entry: of(3, 8, ""), Acked: []Range{{6, 8}}, Passed: map[protocol.DaemonID]uint64{"a": 4, "b": 5, "c": 8},
		Narrowed: true, Awaited: true,
	}, first.Then(second))
	require.Equal(t, map[protocol.DaemonID]uint64{"a": 4, "b": 5}, first.Passed, "input")
	moved := second
	moved.Epoch = epoch1
	require.Equal(t, moved, first.Then(moved), "sequences of another epoch mean nothing")
	require.False(t, second.Then(first).Awaited, "what it waited for it has heard")
}

// Invariant 1: within an epoch those are handed back whom a daemon speaks for that has
// wanted less. What it has passed over it looks at again in the next one, and whoever comes
// begins behind nothing that it has not: that costs repeats.
func TestThatADaemonWantedLessInAnEpochThatIsOverHidesNothing(t *testing.T) {
	t.Parallel()
	before := recordOf(map[protocol.DaemonID]Entry{"d": of(3, 4, here, names("old"))})
	less := Progress{Epoch: epoch0, Entry: of(3, 6, here), Narrowed: true}
	require.Contains(t, before.Apply("d", less).Daemons, protocol.DaemonID("old"))
	gone := less
	gone.Entry.Edge = ""
	for name, c := range map[string]struct {
		rec   Record
		floor uint64
	}{
		"it goes on":           {before.Apply("d", less.Then(Progress{Epoch: epoch1, Entry: of(3, 2, here)})), 2},
		"it has left since":    {before.at(epoch1).Apply("d", gone), 0},
		"it has yet to notice": {before.at(epoch1).Apply("d", less), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, ids("old"), c.rec.Daemons["d"].AnswersFor)
			_, d := comes(c.rec, "new", subs("a.*"), func(r *StartRequest) { r.Epoch = epoch1 })
			require.Equal(t, c.floor, d.Entry.Floor)
		})
	}
}

// A connection of which nothing is known at its end, because it was to begin once more or
// has panicked, has ended all the same: nobody would take it for gone while its edge lives.
func TestAConnectionThatIsAbandonedHasEndedWhateverItHadReported(t *testing.T) {
	t.Parallel()
	reported := Progress{Epoch: epoch0, Entry: Entry{Generation: 3, Edge: "a", Floor: 20}, Acked: []Range{{24, 25}}}
	var own unsaved
	own.add(writer{"d", 3}, reported)
	own.add(writer{"d", 3}, Progress{Entry: Entry{Generation: 3}, Abandoned: true})
	rec := own.applyTo(Record{Epoch: epoch0, Daemons: map[protocol.DaemonID]Entry{"d": {Generation: 3, Edge: "a", Floor: 10}}}, defaultLimits)
	require.Equal(t, "", rec.Daemons["d"].Edge)
	require.EqualValues(t, 20, rec.Daemons["d"].Floor, "what it had reported still holds")
}

// TestAwaitedIsBounded: what finds no place makes whoever is new look back
// further, never less (invariant 1).
func TestAwaitedIsBounded(t *testing.T) {
	t.Parallel()
	rec := recordOf(map[protocol.DaemonID]Entry{"d": of(3, 0, here)})
	for i := range uint64(2 * MaxAwaited) {
		id := protocol.DaemonID(fmt.Sprintf("new%02d", i))
		e := of(3, 100+i, here, func(e *Entry) { e.Written = now.Add(time.Duration(i) * time.Second) })
		rec = rec.Apply("d", Progress{Epoch: epoch0, Entry: e, Passed: map[protocol.DaemonID]uint64{id: 100 + i}})
	}
	require.Len(t, rec.Awaited, MaxAwaited)
	require.Equal(t, uint64(100), rec.Awaited[Anybody].From)
	require.Contains(t, rec.Awaited, protocol.DaemonID("new63"))
	start := func(id protocol.DaemonID, at time.Time) Entry {
		_, d := Start(rec, StartRequest{Daemon: id, Edge: here, Subscriptions: subs("a.*"), Alive: alive, Epoch: epoch0, Now: at, MaxAge: time.Hour})
		return d.Entry
	}
	require.Equal(t, uint64(99), start("new00", now).Floor)
	require.Equal(t, uint64(99), start("new63", now).Floor, "anybody may be the one")

	passed := map[protocol.DaemonID]uint64{}
	for i := range uint64(2 * MaxAwaited) {
		NotePassed(passed, protocol.DaemonID(fmt.Sprint(i)), 100+i)
	}
	require.Len(t, passed, MaxAwaited+1)
	require.Equal(t, uint64(100+MaxAwaited), passed[Anybody])
}

// Events that waited are gone when their time is over, and so are the notes: not earlier
// where the clock of the edge that wrote them is behind, or that of another one ahead.
func TestNotesEndWithTheEventsTheySpeakOf(t *testing.T) {
	t.Parallel()
	rec := recordOf(map[protocol.DaemonID]Entry{"d": of(3, 50, here)})
	behind := Awaited{8, now.Add(-2 * time.Hour)}
	rec.Awaited = map[protocol.DaemonID]Awaited{
		"old": {7, now.Add(-2*time.Hour - writtenWithin)}, "by a clock that is behind": behind, "new": {9, now},
	}
	next, _ := Start(rec, StartRequest{Daemon: "e", Edge: here, Alive: alive, Epoch: epoch0, Now: now, MaxAge: time.Hour})
	require.Equal(t, map[protocol.DaemonID]Awaited{"by a clock that is behind": behind, "new": {9, now}}, next.Awaited)
}

func TestDisturbedAreTheEdgesThatHaveToLearnOfAChange(t *testing.T) {
	t.Parallel()
	rec := recordOf(map[protocol.DaemonID]Entry{
		"superseded": of(1, 0, "a"), "taken": of(2, 0, "b"), "renamed": of(3, 0, "c", names("x")), "moved": of(4, 0, "d"), "left": of(5, 0, ""),
	})
	next := recordOf(map[protocol.DaemonID]Entry{
		"superseded": of(6, 0, here), "renamed": of(3, 9, "c"), "moved": of(4, 9, "d"),
	})
	require.ElementsMatch(t, []string{"a", "b", "c"}, rec.Disturbed(next))
}
