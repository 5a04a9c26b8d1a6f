package cursor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestSettle(t *testing.T) {
	t.Parallel()
	// The orchestrator's events stand at 3, 5, 8 and 9.
	third, fifth, eighth, ninth := Range{1, 3}, Range{4, 5}, Range{6, 8}, Range{9, 9}
	type entries = map[protocol.DaemonID]Entry
	for name, test := range map[string]struct {
		rec     Record
		daemon  protocol.DaemonID
		acked   []Range
		settled int
		want    map[protocol.DaemonID]Entry // floor, ranges and sends
	}{
		"the oldest: the floor follows": {
			recordOf(entries{"d": entryOf(0)}), "d", []Range{third, fifth}, 2, entries{"d": {Floor: 5}},
		},
		"in the middle: a range": {
			recordOf(entries{"d": entryOf(3)}), "d", []Range{eighth}, 1, entries{"d": {Floor: 3, Settled: []Range{{6, 8}}}},
		},
		"a gap that closes": {
			recordOf(entries{"d": entryOf(3, func(e *Entry) { e.Settled = []Range{{6, 8}} })}), "d", []Range{fifth, eighth}, 1,
			entries{"d": {Floor: 8}},
		},
		"the count of sends ends with its event": {
			recordOf(entries{"d": entryOf(3, func(e *Entry) { e.Sends = Sends{5, 50, 2} })}), "d", []Range{fifth}, 1, entries{"d": {Floor: 5}},
		},
		"only the daemon's own": {
			recordOf(entries{"d": entryOf(0), "e": entryOf(0)}), "d", []Range{third}, 1, entries{"d": {Floor: 3}, "e": {}},
		},
		"without an entry: as if it began here": {
			recordOf(entries{"e": entryOf(3)}), "d", []Range{fifth, ninth}, 2,
			entries{"d": {Floor: 5, Settled: []Range{{9, 9}}}, "e": {Floor: 3}},
		},
		"nobody was ever here": {
			Record{}, "d", []Range{fifth}, 1, entries{"d": {Settled: []Range{{4, 5}}}},
		},
		"no daemon is named: all of them": {
			recordOf(entries{"d": entryOf(3), "e": entryOf(0)}), "", []Range{third}, 1, entries{"d": {Floor: 3}, "e": {Floor: 3}},
		},
		"no daemon is named and none was ever here: for the next one": {
			Record{}, "", []Range{fifth}, 1, entries{Remainder: {Settled: []Range{{4, 5}}}},
		},
		"settled before": {
			recordOf(entries{"d": entryOf(5)}), "d", []Range{third, fifth}, 0, entries{"d": {Floor: 5}},
		},
		"nothing": {recordOf(entries{"d": entryOf(0)}), "e", nil, 0, entries{"d": {}}},
		"of an older epoch": {
			Record{Epoch: epoch1, Daemons: entries{"d": entryOf(0)}}, "d", []Range{third}, 0, entries{"d": {}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := StartRequest{Daemon: test.daemon, Epoch: epoch0, Now: now, Alive: alive}
			next, settled := Settle(test.rec, req, test.acked)
			require.Equal(t, test.settled, settled)
			got := entries{}
			for id, e := range next.Daemons {
				got[id] = Entry{Floor: e.Floor, Settled: e.Settled, Sends: e.Sends}
			}
			require.Equal(t, test.want, got)
			again, settled := Settle(next, req, test.acked)
			require.Zero(t, settled, "it is settled only once")
			require.Equal(t, next, again)
		})
	}
}

func TestWhatFindsNoPlaceIsNotCountedAsSettled(t *testing.T) {
	t.Parallel()
	var every []Range
	for i := range uint64(MaxRanges + 10) {
		every = append(every, Range{10 + 3*i, 10 + 3*i})
	}
	next, settled := Settle(recordOf(map[protocol.DaemonID]Entry{"d": entryOf(0)}), StartRequest{Daemon: "d", Epoch: epoch0, Now: now}, every)
	require.Equal(t, MaxRanges, settled)
	require.Len(t, next.Daemons["d"].Settled, MaxRanges)
}

// Invariant 1, and that acknowledging is remembered whoever comes next.
func TestAnEntryMadeBesideConnectionsIsTakenOverByTheNextDaemon(t *testing.T) {
	t.Parallel()
	rec, _ := Settle(Record{}, StartRequest{Daemon: "d", Epoch: epoch0, Now: now}, []Range{{4, 5}})
	rec, decision := Start(rec, StartRequest{
		Daemon: "e", Subscriptions: subs("a.*"), Epoch: epoch0, Now: now.Add(time.Second), Alive: alive,
	})
	require.Equal(t, []Range{{4, 5}}, decision.Entry.Settled)
	require.Equal(t, ids("d"), decision.TookOver)
	require.Len(t, rec.Daemons, 1)
}
