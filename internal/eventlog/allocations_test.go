package eventlog_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// The server runs in this process: what it allocates, about half of all, is
// among what is counted.
func TestAPublishAllocatesLittle(t *testing.T) {
	const runs, size, most = 10, 64, 60
	_, l := setup(t)
	token, body := tokensOf(l, 0, 1)[0], []byte(`{"id":"e"}`)
	ids := make([]string, (runs+1)*size) // AllocsPerRun runs once more
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	each := testing.AllocsPerRun(runs, func() {
		var under sync.WaitGroup
		for _, id := range ids[:size] {
			under.Add(1)
			l.PublishAsync(t.Context(), token, id, body, func(eventlog.Ack, error) { under.Done() })
		}
		under.Wait()
		ids = ids[size:]
	}) / size
	require.LessOrEqual(t, each, float64(most), "allocations for each event")
	t.Logf("%.1f allocations for each event", each)
}
