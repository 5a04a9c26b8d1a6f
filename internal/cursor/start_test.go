package cursor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var (
	epoch0 = eventlog.NewEpoch(time.Unix(1, 0), 0)
	epoch1 = eventlog.NewEpoch(time.Unix(1, 0), 1)
	now    = time.UnixMilli(1_790_000_000_000).UTC()
)

// Edges as the directory of these tests has them.
const (
	here    = "here" // where the request comes from
	there   = "there"
	crashed = "crashed" // not shown
)

func alive(edge string) bool { return edge == here || edge == there }

// entryOf returns an entry written a minute ago, by an edge that has crashed.
func entryOf(floor uint64, change ...func(*Entry)) Entry {
	e := Entry{Floor: floor, Edge: crashed, Subscriptions: subs("a.*"), Written: now.Add(-time.Minute)}
	for _, f := range change {
		f(&e)
	}
	return e
}

func recordOf(entries map[protocol.DaemonID]Entry) Record {
	return Record{Epoch: epoch0, Daemons: entries}
}

type startCase struct {
	rec       Record
	connected []protocol.DaemonID // there
	// mutate changes a request of daemon "d" for a.* without resume.
	mutate  func(*StartRequest)
	want    Entry
	resumed bool
	removed []protocol.DaemonID
	// left are the ids in the record afterwards, beside "d".
	left []protocol.DaemonID
	// awaited are the notes afterwards.
	awaited map[protocol.DaemonID]uint64
}

var startCases = map[string]startCase{
	"nobody was ever here: from the oldest": {want: Entry{}},
	"its own entry, not the lower one of another, which stays": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"d": entryOf(9, func(e *Entry) { e.Settled, e.Sends, e.AnswersFor = []Range{{11, 12}}, Sends{10, 50, 3}, ids("c") }),
			"e": entryOf(4)}),
		want:    Entry{Floor: 9, Settled: []Range{{11, 12}}, Sends: Sends{10, 50, 3}, AnswersFor: ids("c")},
		resumed: true, left: ids("e"),
	},
	"its own entry, older than events are kept": {
		rec:    recordOf(map[protocol.DaemonID]Entry{"d": entryOf(9)}),
		mutate: func(r *StartRequest) { r.MaxAge = time.Second },
		want:   Entry{Floor: 9}, resumed: true,
	},
	"the lowest floor, also of the connected": {
		rec:       recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7), "f": entryOf(5)}),
		connected: ids("e", "f"),
		want:      Entry{Floor: 5}, resumed: true, left: ids("e", "f"),
	},
	"who seems gone and wants no more is taken over, with its ids": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(7, func(e *Entry) { e.AnswersFor, e.Sent = ids("c", "d"), 11 }), "f": entryOf(5)}),
		connected: ids("f"),
		want:      Entry{Floor: 5, AnswersFor: ids("c", "e"), Sent: 11}, resumed: true, removed: ids("e"), left: ids("f"),
	},
	"who has just come is not taken for gone, though the directory does not show its claim yet": {
		rec:       recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7, func(e *Entry) { e.Written = now })}),
		connected: ids("e"),
		want:      Entry{Floor: 7}, resumed: true, left: ids("e"),
	},
	"who has left is taken over": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7, func(e *Entry) { e.Written, e.Edge = now, "" })}),
		want: Entry{Floor: 7, AnswersFor: ids("e")}, resumed: true, removed: ids("e"),
	},
	"who is held by an unknown edge stays": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7, func(e *Entry) { e.Edge = UnknownEdge })}),
		want: Entry{Floor: 7}, resumed: true, left: ids("e"),
	},
	"who answers for another looks for what it has declined": {
		rec: Record{Epoch: epoch0, Awaited: map[protocol.DaemonID]Awaited{"c": {6, now}, "x": {2, now}}, Daemons: map[protocol.DaemonID]Entry{
			"d": entryOf(9, func(e *Entry) { e.AnswersFor = ids("c") })}},
		want: Entry{Floor: 5, Unnamed: 9, AnswersFor: ids("c")}, resumed: true, awaited: map[protocol.DaemonID]uint64{"x": 2},
	},
	"who returns looks where its successor had yet to look": {
		rec: recordOf(map[protocol.DaemonID]Entry{"c": entryOf(9), "b": entryOf(4, func(e *Entry) {
			e.AnswersFor, e.Unnamed, e.Settled = ids("d"), 9, []Range{{6, 6}}
		})}),
		connected: ids("b", "c"),
		want:      Entry{Floor: 4, Unnamed: 9, Settled: []Range{{6, 6}}}, resumed: true, left: ids("b", "c"),
	},
	"who returns gets its name back": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(7, func(e *Entry) { e.AnswersFor = ids("c", "d") })}),
		connected: ids("e"),
		want:      Entry{Floor: 7}, resumed: true, left: ids("e"),
	},
	"what names a daemon never seen waits for it, within what others have passed": {
		rec: Record{Epoch: epoch0, Awaited: map[protocol.DaemonID]Awaited{"d": {6, now}, "x": {2, now}}, Daemons: map[protocol.DaemonID]Entry{
			"e": entryOf(9, func(e *Entry) { e.Settled = []Range{{12, 20}} })}},
		connected: ids("e"),
		want:      Entry{Floor: 5, Unnamed: 9}, resumed: true, left: ids("e"), awaited: map[protocol.DaemonID]uint64{"x": 2},
	},
	"and within what they have settled above their floor": {
		rec: Record{Epoch: epoch0, Awaited: map[protocol.DaemonID]Awaited{"d": {14, now}}, Daemons: map[protocol.DaemonID]Entry{
			"e": entryOf(9, func(e *Entry) { e.Settled = []Range{{12, 20}, {30, 31}} })}},
		connected: ids("e"),
		want:      Entry{Floor: 9, Settled: []Range{{12, 13}}}, resumed: true, left: ids("e"),
	},
	"whoever is new may be the one that found no place": {
		rec: Record{Epoch: epoch0, Awaited: map[protocol.DaemonID]Awaited{Anybody: {6, now}}, Daemons: map[protocol.DaemonID]Entry{
			"e": entryOf(9)}},
		connected: ids("e"),
		want:      Entry{Floor: 5, Unnamed: 9}, resumed: true, left: ids("e"), awaited: map[protocol.DaemonID]uint64{Anybody: 6},
	},
	"what waits for a daemon waits for its successor": {
		rec: Record{Epoch: epoch0, Awaited: map[protocol.DaemonID]Awaited{"c": {6, now}}, Daemons: map[protocol.DaemonID]Entry{
			"e": entryOf(9, func(e *Entry) { e.AnswersFor = ids("c") })}},
		want: Entry{Floor: 5, Unnamed: 9, AnswersFor: ids("c", "e")}, resumed: true, removed: ids("e"),
	},
	"what a predecessor was still looking for": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(3, func(e *Entry) { e.Unnamed = 8 }), "f": entryOf(9)}),
		connected: ids("f"),
		want:      Entry{Floor: 3, Unnamed: 8, AnswersFor: ids("e")}, resumed: true, removed: ids("e"), left: ids("f"),
	},
	"is not settled by what another predecessor has settled above its floor": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(3, func(e *Entry) { e.Unnamed, e.Settled = 20, []Range{{5, 5}, {25, 30}} }),
			"f": entryOf(10, func(e *Entry) { e.Settled = []Range{{12, 15}, {25, 40}} })}),
		want: Entry{Floor: 3, Settled: []Range{{5, 5}, {25, 30}}, Unnamed: 10, AnswersFor: ids("e", "f")}, resumed: true, removed: ids("e", "f"),
	},
	"is no matter to who is not its successor": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(3, func(e *Entry) { e.Unnamed = 8 }), "f": entryOf(9)}),
		connected: ids("e", "f"),
		want:      Entry{Floor: 8}, resumed: true, left: ids("e", "f"),
	},
	"who comes back wanting less than those it speaks for hands them back": {
		rec: recordOf(map[protocol.DaemonID]Entry{"d": entryOf(9, func(e *Entry) {
			e.Subscriptions, e.AnswersFor = subs("*"), ids("b", "c")
		})}),
		want: Entry{Floor: 9}, resumed: true, left: ids("c"),
	},
	"who is back has not left": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"d": entryOf(9, func(e *Entry) { e.Edge = "" })}),
		want: Entry{Floor: 9}, resumed: true,
	},
	"who wants more stays": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7, func(e *Entry) { e.Subscriptions = subs("a.x", "b.x") })}),
		want: Entry{Floor: 7}, resumed: true, left: ids("e"),
	},
	"without a directory nobody is taken over who has not left": {
		rec:    recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7)}),
		mutate: func(r *StartRequest) { r.Alive = nil },
		want:   Entry{Floor: 7}, resumed: true, left: ids("e"),
	},
	"settled ranges only where all have them": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(5, func(e *Entry) { e.Settled = []Range{{8, 20}, {30, 40}} }), "f": entryOf(10)}),
		connected: ids("e", "f"),
		want:      Entry{Floor: 5, Settled: []Range{{8, 10}}}, resumed: true, left: ids("e", "f"),
	},
	"the count of the oldest event goes over": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(5, func(e *Entry) { e.Sends = Sends{6, 50, 4} }),
			"f": entryOf(5, func(e *Entry) { e.Sends = Sends{6, 50, 2} }),
			"g": entryOf(8, func(e *Entry) { e.Sends = Sends{9, 50, 5} })}),
		want:    Entry{Floor: 5, AnswersFor: ids("e", "f", "g"), Sends: Sends{6, 50, 4}},
		resumed: true, removed: ids("e", "f", "g"),
	},
	"the count of one that lives does not": {
		rec:       recordOf(map[protocol.DaemonID]Entry{"e": entryOf(5, func(e *Entry) { e.Sends, e.Sent = Sends{6, 50, 4}, 6 })}),
		connected: ids("e"),
		want:      Entry{Floor: 5}, resumed: true, left: ids("e"),
	},
	"resume lower than its own entry": {
		rec: recordOf(map[protocol.DaemonID]Entry{"d": entryOf(9, func(e *Entry) {
			e.Settled, e.Sent = []Range{{11, 12}}, 12
		})}),
		mutate: func(r *StartRequest) { r.Resume, r.HasResume = 3, true },
		want:   Entry{Floor: 3, Sent: 12}, resumed: true,
	},
	"resume higher than its own entry": {
		rec:    recordOf(map[protocol.DaemonID]Entry{"d": entryOf(9, func(e *Entry) { e.Sends = Sends{10, 50, 2} })}),
		mutate: func(r *StartRequest) { r.Resume, r.HasResume = 30, true },
		want:   Entry{Floor: 30}, resumed: true, awaited: map[protocol.DaemonID]uint64{Anybody: 10},
	},
	"resume with nobody here": {
		mutate: func(r *StartRequest) { r.Resume, r.HasResume = 30, true },
		want:   Entry{Floor: 30}, resumed: true, awaited: map[protocol.DaemonID]uint64{Anybody: 1},
	},
	"resume takes over ids, but removes only what it does not pass by": {
		rec:    recordOf(map[protocol.DaemonID]Entry{"e": entryOf(29), "f": entryOf(30)}),
		mutate: func(r *StartRequest) { r.Resume, r.HasResume = 30, true },
		want:   Entry{Floor: 30, AnswersFor: ids("e", "f")}, resumed: true, removed: ids("f"), left: ids("e"),
	},
	"another epoch: floors mean nothing, ids and subscriptions stay": {
		rec: Record{Epoch: epoch1, Daemons: map[protocol.DaemonID]Entry{
			"d": entryOf(9, func(e *Entry) {
				e.Settled, e.AnswersFor, e.Sent, e.Sends = []Range{{11, 12}}, ids("c"), 12, Sends{10, 50, 2}
			}),
			"e": entryOf(4, func(e *Entry) { e.Subscriptions = subs("b.*") })}},
		want: Entry{AnswersFor: ids("c")}, resumed: false, left: ids("e"),
	},
	"another epoch: a newcomer takes over too": {
		rec:  Record{Epoch: epoch1, Daemons: map[protocol.DaemonID]Entry{"e": entryOf(4), "f": entryOf(8, func(e *Entry) { e.Subscriptions = subs("b.*") })}},
		want: Entry{AnswersFor: ids("e")}, resumed: false, removed: ids("e"), left: ids("f"),
	},
	"too old and gone: counts once more and is dropped": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(2, func(e *Entry) { e.Subscriptions, e.Written = subs("*"), now.Add(-49*time.Hour) }),
			"f": entryOf(3, func(e *Entry) { e.Subscriptions, e.Written = subs("*"), now.Add(-49*time.Hour) }),
			"g": entryOf(4, func(e *Entry) { e.Subscriptions = subs("*") })}),
		mutate:    func(r *StartRequest) { r.MaxAge = 24 * time.Hour },
		connected: ids("f"),
		want:      Entry{Floor: 2}, resumed: true, left: ids("f", "g"), awaited: map[protocol.DaemonID]uint64{"e": 3},
	},
	"not written for longer than events are kept, as while it was idle, and gone only now: stays": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"e": entryOf(2, func(e *Entry) { e.Subscriptions, e.Written = subs("*"), now.Add(-5*time.Hour) })}),
		mutate: func(r *StartRequest) { r.MaxAge = time.Hour },
		want:   Entry{Floor: 2}, resumed: true, left: ids("e"),
	},
	"the ids of the remainder in any case, the remainder only when it is covered": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			Remainder: entryOf(2, func(e *Entry) { e.Subscriptions, e.AnswersFor = subs("*"), ids("b", "c") })}),
		want: Entry{Floor: 2, AnswersFor: ids("b", "c")}, resumed: true, left: ids(Remainder),
	},
	"the remainder when it is covered": {
		rec:  recordOf(map[protocol.DaemonID]Entry{Remainder: entryOf(2, func(e *Entry) { e.AnswersFor = ids("b", "c") })}),
		want: Entry{Floor: 2, AnswersFor: ids("b", "c")}, resumed: true, removed: ids(Remainder),
	},
}

func TestStart(t *testing.T) {
	t.Parallel()
	for name, c := range startCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, id := range c.connected {
				e := c.rec.Daemons[id]
				e.Edge = there
				c.rec.Daemons[id] = e
			}
			before, err := c.rec.Encode()
			require.NoError(t, err)
			req := StartRequest{
				Daemon: "d", Edge: here, Subscriptions: subs("a.*"), Epoch: epoch0, Now: now, Alive: alive,
			}
			if c.mutate != nil {
				c.mutate(&req)
			}
			c.want.Subscriptions, c.want.Written, c.want.Generation, c.want.Edge = subs("a.*"), now, uint64(now.UnixMilli())+1, here

			next, d := Start(c.rec, req)
			require.Equal(t, c.want, d.Entry)
			require.Equal(t, c.want, next.Daemons["d"])
			require.Equal(t, c.resumed, d.Resumed, "resumed")
			require.Equal(t, c.removed, d.TookOver, "taken over")
			require.Equal(t, epoch0, next.Epoch)
			left := slices.DeleteFunc(next.byAge(), func(id protocol.DaemonID) bool { return id == "d" })
			slices.Sort(left)
			require.Equal(t, slices.Clip(c.left), slices.Clip(append(ids(), left...)), "left")

			awaited := map[protocol.DaemonID]uint64{}
			for id, a := range next.Awaited {
				awaited[id] = a.From
			}
			require.Equal(t, len(c.awaited), len(awaited))
			require.Subset(t, awaited, c.awaited, "awaited")
			after, err := c.rec.Encode()
			require.NoError(t, err)
			require.Equal(t, string(before), string(after), "input")
		})
	}
}

func TestSubscriptionsAreIncompleteWhileSomeoneGoneWantedMore(t *testing.T) {
	t.Parallel()
	wantedMore := entryOf(7, func(e *Entry) { e.Subscriptions = subs("a.*", "b.x") })
	for name, c := range map[string]struct {
		daemons   map[protocol.DaemonID]Entry
		connected bool
		want      bool
	}{
		"nobody was ever here":               {nil, false, false},
		"it wanted no more itself":           {map[protocol.DaemonID]Entry{"d": entryOf(1), "e": wantedMore}, false, false},
		"it wanted more itself":              {map[protocol.DaemonID]Entry{"d": wantedMore}, true, true},
		"its predecessor may have":           {map[protocol.DaemonID]Entry{"e": wantedMore}, false, true},
		"a sibling that is connected wanted": {map[protocol.DaemonID]Entry{"e": wantedMore}, true, false},
	} {
		got := Incomplete(recordOf(c.daemons), StartRequest{
			Daemon: "d", Subscriptions: subs("a.*"), Now: now, Alive: func(string) bool { return c.connected },
		})
		require.Equal(t, c.want, got, name)
	}
}

// TestStartInAFullRecord keeps invariant 1: whatever leaves a full record is
// still where a newcomer starts, until somebody wants all of it. Checked by
// TestSimulationCatches, "what leaves a full record is forgotten".
func TestStartInAFullRecord(t *testing.T) {
	t.Parallel()
	rec := recordOf(map[protocol.DaemonID]Entry{})
	for i := range MaxEntries {
		rec.Daemons[protocol.DaemonID(fmt.Sprintf("old%02d", i))] = entryOf(uint64(100-i), func(e *Entry) {
			e.Subscriptions = subs(protocol.Pattern(fmt.Sprintf("t%02d.x", i)))
			e.Written = now.Add(time.Duration(i-100) * time.Second)
			if i == 0 {
				e.Edge = there
			}
		})
	}
	req := StartRequest{Daemon: "new", Subscriptions: subs("a.*"), Epoch: epoch0, Now: now, Alive: alive}
	next, d := Start(rec, req)
	require.Equal(t, uint64(100-MaxEntries+1), d.Entry.Floor)
	require.Len(t, next.Daemons, MaxEntries)
	require.Contains(t, next.Daemons, protocol.DaemonID("old00"), "connected")
	r := next.Daemons[Remainder]
	require.Equal(t, uint64(98), r.Floor)
	require.Equal(t, subs("t01.x", "t02.x"), r.Subscriptions)
	require.Equal(t, ids("old01", "old02"), r.AnswersFor)

	req.Daemon, req.Subscriptions, req.Now = "wide", subs("*"), now.Add(time.Minute)
	next, d = Start(next, req)
	require.NotContains(t, next.Daemons, Remainder)
	require.Len(t, next.Daemons, 2)
	require.Subset(t, d.Entry.AnswersFor, ids("old01", "old02", "old31", "new"))
}

func TestAnswersForIsBounded(t *testing.T) {
	t.Parallel()
	var rec Record
	for i := range 3 * MaxAnswersFor {
		rec, _ = Start(rec, StartRequest{
			Daemon: protocol.DaemonID(fmt.Sprintf("d%03d", i)), Subscriptions: subs("*"), Epoch: epoch0,
			Now: now.Add(time.Duration(i) * time.Minute),
		})
	}
	require.Len(t, rec.Daemons, 1)
	e := rec.Daemons["d191"]
	require.Len(t, e.AnswersFor, MaxAnswersFor)
	require.Equal(t, protocol.DaemonID("d190"), e.AnswersFor[MaxAnswersFor-1], "the newest stay")
}

// TestPresumedIsBounded: a daemon that was taken over without having left may
// live, and is noted with the generation of its last start; one that had left
// is not.
func TestPresumedIsBounded(t *testing.T) {
	t.Parallel()
	rec := recordOf(map[protocol.DaemonID]Entry{"left": of(1, 0, "")})
	for i := range uint64(MaxEntries - 1) {
		rec.Daemons[protocol.DaemonID(fmt.Sprintf("old%02d", i))] = of(100+i, 0, crashed)
	}
	start := func(id protocol.DaemonID) (d Decision) {
		rec, d = Start(rec, StartRequest{Daemon: id, Edge: here, Subscriptions: subs("a.*"), Alive: alive, Epoch: epoch0, Now: now})
		return d
	}
	start("new")
	require.Len(t, rec.Presumed, MaxEntries-1)
	require.Equal(t, uint64(100), rec.Presumed["old00"])
	require.False(t, rec.Superseded("old00", 100))
	require.True(t, rec.Superseded("old00", 99))
	require.True(t, rec.Superseded("left", 1))
	require.False(t, rec.Superseded("never seen", 1))

	start("old00")
	require.NotContains(t, rec.Presumed, protocol.DaemonID("old00"), "who returns is not taken for gone")
	e := of(2000, 0, there)
	for i := range uint64(2 * MaxPresumed) {
		id := protocol.DaemonID(fmt.Sprintf("more%02d", i))
		e.AnswersFor, rec.Presumed[id] = append(e.AnswersFor, id), 1000+i
	}
	rec.Daemons["e"] = e
	start("newest")
	require.Len(t, rec.Presumed, MaxPresumed)
	require.Contains(t, rec.Presumed, protocol.DaemonID("more63"), "the newest stay")
	require.True(t, rec.Superseded("more00", 1000), "who is forgotten has to connect again")
}
