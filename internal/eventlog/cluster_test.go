package eventlog_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// TestClusterLosesItsLeader publishes while the leader of a partition is killed
// and comes back: what was acknowledged is followed without a gap and in order,
// is read back, and no replica's answer claims to hold beyond what it has.
func TestClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	c := testserver.NATSCluster(t, 3)
	cfg := config(func(c *eventlog.Config) { c.StreamReplicas, c.EventsPerOrchestrator = 3, 1<<20 })
	js := c.JetStream()
	l := open(t, js, cfg)
	reader := open(t, c.JetStream(), cfg)
	epoch := l.Epoch(0)
	const each = 60 // events of each orchestrator after the kill
	tokens := tokensOf(l, 0, 10)
	f := follow(t, reader, 0, 1)

	answers := make(chan []eventlog.Last, 1000)
	asking, stop := context.WithCancel(t.Context())
	var asked errgroup.Group
	asked.Go(func() error {
		for asking.Err() == nil {
			if answer, err := reader.LastSequences(asking, 0, tokens); err == nil && len(answers) < cap(answers) {
				answers <- answer
			}
		}
		return nil
	})
	killed := make(chan struct{})
	acked := make([][]uint64, len(tokens))
	var published errgroup.Group
	for i, token := range tokens {
		published.Go(func() error {
			for n, after := 0, 0; after < each; {
				ack, err := l.Publish(t.Context(), token, strconv.Itoa(n), []byte("x"))
				if eventlog.Retryable(err) {
					continue
				}
				if err != nil {
					return err
				}
				acked[i] = append(acked[i], ack.Sequence)
				n++
				select {
				case <-killed:
					after++
				default:
				}
			}
			return nil
		})
	}
	leader := c.StreamLeader(js, event.StreamName(0))
	leader.Kill()
	close(killed)
	require.NoError(t, published.Wait())
	leader.Start()
	stop()
	require.NoError(t, asked.Wait())
	close(answers)

	last := publish(t, l, tokens[0], "last", "x")
	f.until(t, last)
	require.NoError(t, f.stop())
	acked[0] = append(acked[0], last)
	for i, token := range tokens {
		require.Equal(t, acked[i], f.of(token), "orchestrator %s", token)
	}
	for answer := range answers {
		for i := range tokens {
			for _, s := range acked[i] {
				require.False(t, s > answer[i].Sequence && s <= answer[i].UpTo, "event %d lies between %+v", s, answer[i])
			}
		}
	}
	require.Eventually(t, func() bool {
		page, err := reader.Read(t.Context(), 0, tokens[0], acked[0][0], 1000, 1<<20)
		return err == nil && len(page.Messages)+int(page.Remaining) == len(acked[0])
	}, waitTime, 10*time.Millisecond)
	state, err := l.Refresh(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, epoch, state.Epoch, "a change of leaders is no new epoch")
}
