package eventlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// deadletterFeed stores dead letters of 64 KiB or so each.
type deadletterFeed struct {
	log *eventlog.Log
	n   int
}

func (f *deadletterFeed) bury(t *testing.T, n int) {
	t.Helper()
	for range n {
		f.n++
		bury(t, f.log, eventlog.DeadLetter{
			Reason: event.ReasonUndelivered, Token: "o", EventID: fmt.Sprint(f.n), Body: []byte(strings.Repeat("x", 64<<10)),
		})
	}
}

// Full dead letters drop the oldest of what was not delivered. Nobody learned of it.
func TestDroppedDeadLettersAreCounted(t *testing.T) {
	t.Parallel()
	s, l := setup(t, func(c *eventlog.Config) { c.LogMaxBytes = 2 << 20 })
	feed := deadletterFeed{log: l}
	reg := prometheus.NewPedanticRegistry()
	w := eventlog.NewDeadLetterWatch(l, reg)
	look := func() int {
		dropped, err := insist(func() (uint64, error) { return w.Look(t.Context()) })
		require.NoError(t, err)
		return int(dropped)
	}
	stream, err := s.JetStream().Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	kept := func() int {
		info, err := stream.Info(t.Context())
		require.NoError(t, err)
		return int(info.State.Msgs)
	}

	require.Zero(t, look(), "nothing is there")
	feed.bury(t, 10)
	require.Zero(t, look(), "there is room")
	feed.bury(t, 90)
	gone := 100 - kept()
	require.Positive(t, gone)
	require.Equal(t, gone, look())
	require.Zero(t, look(), "each is counted once")
	require.NoError(t, stream.DeleteMsg(t.Context(), uint64(feed.n)-1))
	require.Zero(t, look(), "somebody has removed one of them")
	feed.bury(t, 5)
	require.Equal(t, 105-1-kept(), gone+look())
	text := func(name string) float64 {
		found, err := testutil.GatherAndCount(reg, name)
		require.NoError(t, err)
		require.Equal(t, 1, found)
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == name {
				return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return 0
	}
	require.EqualValues(t, 105-1-kept(), text("gateway_deadletters_dropped_total"))
	require.EqualValues(t, 2<<20, text("gateway_deadletters_limit_bytes"))
	require.Greater(t, text("gateway_deadletters_bytes"), float64(2<<20)/2)

	require.NoError(t, stream.Purge(t.Context()))
	feed.bury(t, 3)
	require.Zero(t, look(), "a purge is no drop")
}

// What has been there for as long as it is to be kept is not missed.
func TestExpiredDeadLettersAreNotDropped(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	l := open(t, s.JetStream(), config(func(c *eventlog.Config) {
		c.LogMaxBytes, c.DeadletterRetention = 2<<20, 10*time.Second
	}))
	feed := deadletterFeed{log: l}
	w := eventlog.NewDeadLetterWatch(l, prometheus.NewPedanticRegistry())
	for range 3 {
		feed.bury(t, 60)
		dropped, err := insist(func() (uint64, error) { return w.Look(t.Context()) })
		require.NoError(t, err)
		require.Zero(t, dropped, "they were near their end")
	}
}
