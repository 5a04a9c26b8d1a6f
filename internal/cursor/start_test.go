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

// entryOf returns an entry written a minute ago.
func entryOf(floor uint64, change ...func(*Entry)) Entry {
	e := Entry{Floor: floor, Subscriptions: subs("a.*"), Written: now.Add(-time.Minute)}
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
	connected []protocol.DaemonID
	// mutate changes a request of daemon "d" for a.* without resume.
	mutate  func(*StartRequest)
	want    Entry
	resumed bool
	removed []protocol.DaemonID
	// left are the ids in the record afterwards, beside "d".
	left []protocol.DaemonID
}

var startCases = map[string]startCase{
	"nobody was ever here: from the oldest": {want: Entry{}},
	"its own entry, not the lower one of another, which stays": {
		rec: recordOf(map[protocol.DaemonID]Entry{
			"d": entryOf(9, func(e *Entry) { e.Settled, e.Sends, e.AnswersFor = []Range{{11, 12}}, Sends{10, 3}, ids("c") }),
			"e": entryOf(4)}),
		want:    Entry{Floor: 9, Settled: []Range{{11, 12}}, Sends: Sends{10, 3}, AnswersFor: ids("c")},
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
	"who has just come, unseen by the directory yet, is not taken for gone": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7, func(e *Entry) { e.Written = now.Add(-time.Second) })}),
		want: Entry{Floor: 7}, resumed: true, left: ids("e"),
	},
	"who has just left, and said so, is taken over": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7, func(e *Entry) { e.Written, e.Left = now.Add(-time.Second), true })}),
		want: Entry{Floor: 7, AnswersFor: ids("e")}, resumed: true, removed: ids("e"),
	},
	"who is back has not left": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"d": entryOf(9, func(e *Entry) { e.Left = true })}),
		want: Entry{Floor: 9}, resumed: true,
	},
	"who wants more stays": {
		rec:  recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7, func(e *Entry) { e.Subscriptions = subs("a.x", "b.x") })}),
		want: Entry{Floor: 7}, resumed: true, left: ids("e"),
	},
	"without a directory nobody is taken over": {
		rec:    recordOf(map[protocol.DaemonID]Entry{"e": entryOf(7)}),
		mutate: func(r *StartRequest) { r.Connected = nil },
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
			"e": entryOf(5, func(e *Entry) { e.Sends = Sends{6, 4} }),
			"f": entryOf(5, func(e *Entry) { e.Sends = Sends{6, 2} }),
			"g": entryOf(8, func(e *Entry) { e.Sends = Sends{9, 5} })}),
		want:    Entry{Floor: 5, AnswersFor: ids("e", "f", "g"), Sends: Sends{6, 4}},
		resumed: true, removed: ids("e", "f", "g"),
	},
	"the count of one that lives does not": {
		rec:       recordOf(map[protocol.DaemonID]Entry{"e": entryOf(5, func(e *Entry) { e.Sends, e.Sent = Sends{6, 4}, 6 })}),
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
		rec:    recordOf(map[protocol.DaemonID]Entry{"d": entryOf(9, func(e *Entry) { e.Sends = Sends{10, 2} })}),
		mutate: func(r *StartRequest) { r.Resume, r.HasResume = 30, true },
		want:   Entry{Floor: 30}, resumed: true,
	},
	"resume with nobody here": {
		mutate: func(r *StartRequest) { r.Resume, r.HasResume = 30, true },
		want:   Entry{Floor: 30}, resumed: true,
	},
	"resume takes over ids, but removes only what it does not pass by": {
		rec:    recordOf(map[protocol.DaemonID]Entry{"e": entryOf(29), "f": entryOf(30)}),
		mutate: func(r *StartRequest) { r.Resume, r.HasResume = 30, true },
		want:   Entry{Floor: 30, AnswersFor: ids("e", "f")}, resumed: true, removed: ids("f"), left: ids("e"),
	},
	"another epoch: floors mean nothing, ids and subscriptions stay": {
		rec: Record{Epoch: epoch1, Daemons: map[protocol.DaemonID]Entry{
			"d": entryOf(9, func(e *Entry) {
				e.Settled, e.AnswersFor, e.Sent, e.Sends = []Range{{11, 12}}, ids("c"), 12, Sends{10, 2}
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
			"e": entryOf(2, func(e *Entry) { e.Subscriptions, e.Written = subs("*"), now.Add(-25*time.Hour) }),
			"f": entryOf(3, func(e *Entry) { e.Subscriptions, e.Written = subs("*"), now.Add(-25*time.Hour) }),
			"g": entryOf(4, func(e *Entry) { e.Subscriptions = subs("*") })}),
		mutate:    func(r *StartRequest) { r.MaxAge = 24 * time.Hour },
		connected: ids("f"),
		want:      Entry{Floor: 2}, resumed: true, left: ids("f", "g"),
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
			before, err := c.rec.Encode()
			require.NoError(t, err)
			req := StartRequest{
				Daemon: "d", Subscriptions: subs("a.*"), Epoch: epoch0, Now: now,
				Connected: func(id protocol.DaemonID) bool { return slices.Contains(c.connected, id) },
			}
			if c.mutate != nil {
				c.mutate(&req)
			}
			c.want.Subscriptions, c.want.Written = subs("a.*"), now

			next, d := Start(c.rec, req)
			require.Equal(t, c.want, d.Entry)
			require.Equal(t, c.want, next.Daemons["d"])
			require.Equal(t, c.resumed, d.Resumed, "resumed")
			require.Equal(t, c.removed, d.TookOver, "taken over")
			require.Equal(t, epoch0, next.Epoch)
			left := slices.DeleteFunc(next.byAge(), func(id protocol.DaemonID) bool { return id == "d" })
			slices.Sort(left)
			require.Equal(t, slices.Clip(c.left), slices.Clip(append(ids(), left...)), "left")

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
			Daemon: "d", Subscriptions: subs("a.*"), Now: now, Connected: func(protocol.DaemonID) bool { return c.connected },
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
		})
	}
	req := StartRequest{
		Daemon: "new", Subscriptions: subs("a.*"), Epoch: epoch0, Now: now,
		Connected: func(id protocol.DaemonID) bool { return id == "old00" },
	}
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
			Now: now.Add(time.Duration(i) * time.Minute), Connected: func(protocol.DaemonID) bool { return false },
		})
	}
	require.Len(t, rec.Daemons, 1)
	e := rec.Daemons["d191"]
	require.Len(t, e.AnswersFor, MaxAnswersFor)
	require.Equal(t, protocol.DaemonID("d190"), e.AnswersFor[MaxAnswersFor-1], "the newest stay")
}

func TestReapply(t *testing.T) {
	t.Parallel()
	own := func(epoch eventlog.Epoch, e Entry) unsaved {
		return unsaved{epoch: epoch, entries: map[protocol.DaemonID]Entry{"d": e}}
	}
	rec := recordOf(map[protocol.DaemonID]Entry{"d": entryOf(5), "e": entryOf(7)})
	for name, c := range map[string]struct {
		own  unsaved
		want map[protocol.DaemonID]uint64 // floors
	}{
		"nothing":                               {unsaved{}, map[protocol.DaemonID]uint64{"d": 5, "e": 7}},
		"higher":                                {own(epoch0, entryOf(6)), map[protocol.DaemonID]uint64{"d": 6, "e": 7}},
		"never lower":                           {own(epoch0, entryOf(3)), map[protocol.DaemonID]uint64{"d": 5, "e": 7}},
		"newer epoch: replaces and resets":      {own(epoch1, entryOf(3)), map[protocol.DaemonID]uint64{"d": 3, "e": 0}},
		"older epoch: ignored":                  {own("", entryOf(30)), map[protocol.DaemonID]uint64{"d": 5, "e": 7}},
		"put back after a successor removed it": {unsaved{epoch0, map[protocol.DaemonID]Entry{"f": entryOf(4)}}, map[protocol.DaemonID]uint64{"d": 5, "e": 7, "f": 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			floors := map[protocol.DaemonID]uint64{}
			for id, e := range c.own.reapply(rec, defaultLimits).Daemons {
				floors[id] = e.Floor
			}
			require.Equal(t, c.want, floors)
		})
	}
	require.Equal(t, uint64(5), rec.Daemons["d"].Floor, "input")
}

func TestUnsavedEpochs(t *testing.T) {
	t.Parallel()
	var u unsaved
	u.add(epoch0, "d", entryOf(30), defaultLimits)
	u.add(epoch0, "d", entryOf(20), defaultLimits)
	require.Equal(t, uint64(30), u.entries["d"].Floor, "never lower")
	u.add(epoch1, "d", entryOf(2), defaultLimits)
	require.Equal(t, uint64(2), u.entries["d"].Floor, "a newer epoch replaces")
	u.add(epoch0, "d", entryOf(50), defaultLimits)
	u.addAll(unsaved{epoch0, map[protocol.DaemonID]Entry{"e": entryOf(9)}}, defaultLimits)
	require.Equal(t, uint64(2), u.entries["d"].Floor, "an older one is ignored")
	require.NotContains(t, u.entries, protocol.DaemonID("e"))
}
