package cursor

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestEncode(t *testing.T) {
	t.Parallel()
	rec := recordOf(map[protocol.DaemonID]Entry{
		"d": {
			Generation: 4, Edge: "edge-1", Floor: 9, Settled: []Range{{11, 12}, {20, 20}}, Unnamed: 10, AnswersFor: ids("c"),
			Sends: Sends{10, 1790000000123456789, 3}, Sent: 20, Written: now,
			Subscriptions: []protocol.Subscription{{Pattern: "a.*"}, {Pattern: "b.x", Channels: []string{"1"}}},
		},
		"old":     {Edge: UnknownEdge, Written: now},
		Remainder: {Written: now},
	})
	rec.Awaited = map[protocol.DaemonID]Awaited{"new": {7, now}}
	rec.Presumed = map[protocol.DaemonID]uint64{"c": 3}
	rec.Lost = Lost{now, subs("a.*")}
	data, err := rec.Encode()
	require.NoError(t, err)
	require.Equal(t, `{"v":1,"e":"`+string(epoch0)+`","d":{"":{"f":0,"l":true,"w":1790000000000},`+
		`"d":{"g":4,"h":"edge-1","f":9,"r":[11,12,20,20],"u":10,"s":[{"t":"a.*"},{"t":"b.x","c":["1"]}],"a":["c"],"q":10,"t":1790000000123456789,"n":3,"x":20,"w":1790000000000},`+
		`"old":{"f":0,"w":1790000000000}},"p":{"new":[7,1790000000000]},"o":{"c":3},"l":{"w":1790000000000,"s":[{"t":"a.*"}]}}`, string(data))
	back, err := Decode(data)
	require.NoError(t, err)
	require.Equal(t, rec, back)
}

func TestEncodeDecode(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 4))
		rec := recordOf(map[protocol.DaemonID]Entry{})
		for range r.IntN(4) {
			e := randomEntry(r)
			e.Generation, e.Unnamed, e.Edge = r.Uint64N(3), r.Uint64N(20), []string{"", "e", UnknownEdge}[r.IntN(3)]
			rec.Daemons[ids("p", "q", "ü", Remainder)[r.IntN(4)]] = e
		}
		if r.IntN(2) == 0 {
			rec.Lost = Lost{now, randomEntry(r).Subscriptions}
		}
		data, err := rec.Encode()
		require.NoError(t, err)
		back, err := Decode(data)
		require.NoError(t, err)
		require.Equal(t, rec, back, "seed %d", seed)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	empty, err := Decode(nil)
	require.NoError(t, err)
	require.Equal(t, Record{}, empty)
	for text, want := range map[string]error{
		`nonsense`:                        ErrMalformed,
		`[]`:                              ErrMalformed,
		`{}`:                              ErrMalformed,
		`{"v":1,"d":{"a":{"f":-1}}}`:      ErrMalformed,
		`{"v":1,"d":{"a":{"r":[1,2,3]}}}`: ErrMalformed,
		`{"v":2,"e":"x"}`:                 ErrVersion,
		`{"v":2,"d":"something else"}`:    ErrVersion,
	} {
		_, err := Decode([]byte(text))
		require.ErrorIs(t, err, want, text)
	}
	// What no program of ours writes is brought into form, not believed.
	rec, err := Decode([]byte(`{"v":1,"d":{"a":{"f":5,"r":[9,3,20,30,6,7,21,40]}}}`))
	require.NoError(t, err)
	require.Equal(t, uint64(7), rec.Daemons["a"].Floor)
	require.Equal(t, []Range{{20, 40}}, rec.Daemons["a"].Settled)
}

// A record of the release before generations: who holds a connection is not
// known, who has left is. That release reads what this one writes, and drops
// what it does not know.
func TestRecordsOfTheReleaseBeforeGenerations(t *testing.T) {
	t.Parallel()
	rec, err := Decode([]byte(`{"v":1,"e":"x","d":{"left":{"f":3,"l":true,"w":1},"there":{"f":4,"a":["old"],"w":1}}}`))
	require.NoError(t, err)
	require.Equal(t, map[protocol.DaemonID]Entry{
		"left":  {Floor: 3, Written: time.UnixMilli(1).UTC()},
		"there": {Floor: 4, Edge: UnknownEdge, AnswersFor: ids("old"), Written: time.UnixMilli(1).UTC()},
	}, rec.Daemons)
	require.Nil(t, rec.Awaited)

	rec.Revision = 50 // whatever the generations were before that release rewrote the record
	_, d := Start(rec, StartRequest{Daemon: "there", Edge: "edge", Epoch: rec.Epoch})
	require.Equal(t, uint64(51), d.Entry.Generation)
}

// After a rollback of the log another event may stand where one was tried in vain.
func TestACountOfVainTriesIsThatOfOneEvent(t *testing.T) {
	t.Parallel()
	sends := Sends{10, now.UnixNano(), 3}
	require.Equal(t, 3, sends.Of(10, now))
	require.Zero(t, sends.Of(11, now))
	require.Zero(t, sends.Of(10, now.Add(time.Nanosecond)))

	rec, err := Decode([]byte(`{"v":1,"e":"x","d":{"d":{"f":9,"q":10,"n":3,"w":1}}}`))
	require.NoError(t, err)
	require.Zero(t, rec.Daemons["d"].Sends.Of(10, now), "a version before did not say of which")
}

// TestLargestRecord: the bounds keep any record below NATS's maximum payload,
// whatever ids, patterns and channels are made of.
func TestLargestRecord(t *testing.T) {
	t.Parallel()
	const natsMaxPayload = 1 << 20
	for name, filling := range map[string]string{"letters": "x", "controls": "\x01", "markup": "<", "quotes": `"`, "separators": "\u2028"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := Record{Epoch: epoch0, Daemons: map[protocol.DaemonID]Entry{}, Awaited: map[protocol.DaemonID]Awaited{}, Presumed: map[protocol.DaemonID]uint64{}}
			id := func(i, j int) protocol.DaemonID {
				prefix := string(rune('A'+i)) + string(rune('A'+j))
				return protocol.DaemonID(prefix + strings.Repeat(filling, (protocol.MaxIDBytes-len(prefix))/len(filling)))
			}
			for i := range MaxEntries {
				var e Entry
				for j := range 2 * MaxAnswersFor {
					e.AnswersFor = append(e.AnswersFor, id(i, j))
					e.Settled = append(e.Settled, Range{1<<50 + uint64(10*j), 1<<50 + uint64(10*j) + 5})
				}
				for j := range 2 {
					e.Subscriptions = append(e.Subscriptions, protocol.Subscription{
						Pattern: protocol.Pattern(fmt.Sprintf("task.%d.*", j)), Channels: []string{strings.Repeat(filling, MaxSubscriptionBytes/2/len(filling)-100)},
					})
				}
				rec.Daemons[id(i, 0)] = mergeOf(e, Entry{Sends: Sends{1 << 60, 1 << 60, 1 << 30}, Sent: 1 << 60})
				rec.Presumed[id(i, 1)] = 1 << 60
				rec.Awaited[id(i, 2)] = Awaited{From: 1 << 60, Written: now}
			}
			data, err := rec.Encode()
			require.NoError(t, err)
			require.Less(t, len(data), natsMaxPayload)
		})
	}
}

// TestStoredBytesAreEnough: the bounds count at least what encoding/json writes.
func TestStoredBytesAreEnough(t *testing.T) {
	t.Parallel()
	for c := range rune(0x3000) {
		text := "a" + string(c)
		data, err := json.Marshal([]string{text, text})
		require.NoError(t, err)
		require.GreaterOrEqual(t, 2*storedBytes(text)+len("["), len(data), "%q", c)
	}
	broken, err := json.Marshal([]string{"\xff\xfe"})
	require.NoError(t, err)
	require.GreaterOrEqual(t, storedBytes("\xff\xfe")+len("["), len(broken))
}
