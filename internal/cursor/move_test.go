package cursor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestRecordMovesIntoARestoredLogUnlessItSpeaksOfWhatThatHasNot(t *testing.T) {
	t.Parallel()
	const last = 100
	within := Entry{Floor: 80, Settled: []Range{{90, last}}, Sends: Sends{81, 50, 1}, Sent: last}
	rec := Record{Epoch: "before", Daemons: map[protocol.DaemonID]Entry{"a": within, "b": {}}}
	moved, ok := rec.Moved("restored", last)
	require.True(t, ok)
	require.Equal(t, Record{Epoch: "restored", Daemons: rec.Daemons}, moved)
	rec.Lost = Lost{now, subs("a.*")}
	moved, ok = rec.Moved("restored", last)
	require.True(t, ok)
	require.Equal(t, Lost{Since: now}, moved.Lost, "who is missing in it is missing in the restored one")
	for what, e := range map[string]Entry{
		"floor":   {Floor: last + 1},
		"settled": {Settled: []Range{{5, 6}, {90, last + 1}}},
		"sends":   {Sends: Sends{last + 1, 50, 1}},
		"sent":    {Sent: last + 1},
	} {
		rec.Daemons["b"] = e
		_, ok := rec.Moved("restored", last)
		require.False(t, ok, what)
	}
}
