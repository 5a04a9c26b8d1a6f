package eventlog_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

func TestReadSinceATime(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	tokens := tokensOf(l, 0, 2)
	var want []uint64
	for i := range 10 {
		want = append(want, publish(t, l, tokens[0], strconv.Itoa(i), "x"))
		publish(t, l, tokens[1], strconv.Itoa(i), "other")
	}
	all := read(t, l, tokens[0], 1, 100, 1<<20).Messages
	for name, test := range map[string]struct {
		since     time.Time
		most      int
		want      []uint64
		remaining int
	}{
		"before everything":     {time.Unix(0, 0), 100, want, 0},
		"the time of an event":  {all[4].Stored, 100, want[4:], 0},
		"just after an event":   {all[4].Stored.Add(1), 100, want[5:], 0},
		"in another zone":       {all[4].Stored.In(time.FixedZone("", 3600)), 100, want[4:], 0},
		"no more than asked":    {all[4].Stored, 2, want[4:6], 4},
		"after everything":      {time.Now().Add(time.Hour), 100, nil, 0},
		"after the last by 1ns": {all[9].Stored.Add(1), 100, nil, 0},
	} {
		page, err := insist(func() (eventlog.Page, error) {
			return l.ReadSince(t.Context(), 0, tokens[0], test.since, test.most, 1<<20)
		})
		require.NoError(t, err, name)
		require.Equal(t, test.want, sequences(page), name)
		require.EqualValues(t, test.remaining, page.Remaining, name)
	}
}
