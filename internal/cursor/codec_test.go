package cursor

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestEncode(t *testing.T) {
	t.Parallel()
	rec := recordOf(map[protocol.DaemonID]Entry{
		"d": {
			Floor: 9, Settled: []Range{{11, 12}, {20, 20}}, AnswersFor: ids("c"), Sends: Sends{10, 3}, Sent: 20, Written: now,
			Subscriptions: []protocol.Subscription{{Pattern: "a.*"}, {Pattern: "b.x", Channels: []string{"1"}}},
		},
		Remainder: {Written: now},
	})
	data, err := rec.Encode()
	require.NoError(t, err)
	require.Equal(t, `{"v":1,"e":"`+string(epoch0)+`","d":{"":{"f":0,"w":1790000000000},`+
		`"d":{"f":9,"r":[11,12,20,20],"s":[{"t":"a.*"},{"t":"b.x","c":["1"]}],"a":["c"],"q":10,"n":3,"x":20,"w":1790000000000}}}`, string(data))
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
			rec.Daemons[ids("p", "q", "ü", Remainder)[r.IntN(4)]] = randomEntry(r)
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

// TestLargestRecord: the bounds keep any record below NATS's maximum payload.
func TestLargestRecord(t *testing.T) {
	t.Parallel()
	const natsMaxPayload = 1 << 20
	rec := recordOf(map[protocol.DaemonID]Entry{})
	id := func(i, j int) protocol.DaemonID {
		return protocol.DaemonID(string(rune('A'+i)) + string(rune('A'+j)) + strings.Repeat("x", protocol.MaxIDBytes-3))
	}
	for i := range MaxEntries {
		var e Entry
		for j := range 2 * MaxAnswersFor {
			e.AnswersFor = append(e.AnswersFor, id(i, j))
			e.Settled = append(e.Settled, Range{1<<50 + uint64(10*j), 1<<50 + uint64(10*j) + 5})
			e.Subscriptions = append(e.Subscriptions, protocol.Subscription{
				Pattern: protocol.Pattern(id(i, j)[:100] + ".*"), Channels: []string{strings.Repeat("c", 60<<10)},
			})
		}
		rec.Daemons[id(i, 0)] = Merge(e, Entry{Sends: Sends{1 << 60, 1 << 30}, Sent: 1 << 60})
	}
	data, err := rec.Encode()
	require.NoError(t, err)
	require.Less(t, len(data), natsMaxPayload*3/4)
}
