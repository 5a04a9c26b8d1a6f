package edge

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// sentBytes returns how many bytes the server has sent to its clients.
func (c *cluster) sentBytes() int64 {
	c.t.Helper()
	stats, err := c.nats.Server().Varz(&server.VarzOptions{})
	require.NoError(c.t, err)
	return stats.OutBytes
}

// Regression: an edge without consumers read all that an orchestrator had, up to
// 250 MiB, for each ack by HTTP of a daemon that is away.
func TestAnAckByHTTPReadsNoMoreThanItAskedForAndGoesOnTheNextTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Upkeep.ManageStreams = false })
	const events, size = 90, 200 << 10
	var last stored
	for range events {
		last = c.publish("orch", func(e *event.Event) { e.Payload = []byte(`{"x":"` + strings.Repeat("x", size) + `"}`) })
	}
	acknowledge := func(id string, most int64) (requests, acknowledged int) {
		require.Eventually(t, func() bool {
			before := c.sentBytes()
			a := n.request("DELETE", "", `{"eventIds":["`+id+`"]}`, as(t, "orch", "d"))
			requests++
			require.LessOrEqual(t, c.sentBytes()-before, most)
			if a.status == http.StatusTooManyRequests {
				require.NotEmpty(t, a.header.Get("Retry-After"))
			}
			acknowledged = a.Acknowledged
			return a.status == http.StatusOK
		}, testserver.Patience, time.Millisecond)
		return requests, acknowledged
	}
	const most = 2*(searchBytes+256<<10) + 2<<20 // of heads and of bodies, and what answers go beyond it
	requests, acknowledged := acknowledge(last.id, most)
	require.GreaterOrEqual(t, requests, 4)
	require.Equal(t, 1, acknowledged)
	for _, id := range []string{last.id, "unknown"} {
		_, acknowledged := acknowledge(id, 1<<20) // what is known is not read again
		require.Zero(t, acknowledged)
	}
}

func TestOfAnOrchestratorOneSearchAtATimeIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSearches()
		one, err := s.begin(t.Context(), "one", "e")
		require.NoError(t, err)
		waits := make(chan *search)
		go func() {
			second, err := s.begin(t.Context(), "one", "e")
			if err != nil {
				t.Error(err)
			}
			waits <- second
		}()
		hurried, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.begin(hurried, "one", "e")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		other, err := s.begin(t.Context(), "two", "e")
		require.NoError(t, err, "others are not concerned")
		s.end(other, 0)
		select {
		case <-waits:
			require.Fail(t, "two at a time")
		default:
		}
		s.end(one, 0)
		s.end(<-waits, 0)
		require.Zero(t, one.users)
	})
}

func TestWhatAnOrchestratorsSearchesReadIsPaidForInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSearches()
		for _, read := range []int{int(searchPace * searchCredit / time.Second), 3 * searchPace} {
			one, err := s.begin(t.Context(), "one", "e")
			require.NoError(t, err)
			s.end(one, read)
		}
		_, err := s.begin(t.Context(), "one", "e")
		var later *laterError
		require.ErrorAs(t, err, &later)
		require.Equal(t, 3*time.Second, later.wait)
		<-time.After(later.wait) // the bubble's time
		one, err := s.begin(t.Context(), "one", "e")
		require.NoError(t, err)
		s.end(one, 0)
	})
}

func TestWhatWasFoundOutCountsOnlyInItsEpoch(t *testing.T) {
	t.Parallel()
	s := newSearches()
	for _, step := range []struct {
		epoch eventlog.Epoch
		next  uint64
	}{{"before", 1}, {"before", 8}, {"after", 1}} {
		one, err := s.begin(t.Context(), "one", step.epoch)
		require.NoError(t, err)
		require.Equal(t, step.next, one.heads.Next(), step.epoch)
		one.heads.Add(7, "id", 10)
		s.end(one, 0)
	}
}

func TestOnlySoManyOrchestratorsAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSearches()
		busy, err := s.begin(t.Context(), "busy", "e")
		require.NoError(t, err)
		for i := range 2 * maxSearched {
			<-time.After(time.Nanosecond) // the bubble's time
			one, err := s.begin(t.Context(), event.Token(fmt.Sprint(i)), "e")
			require.NoError(t, err)
			s.end(one, 0)
		}
		require.Len(t, s.all, maxSearched)
		require.Same(t, busy, s.all["busy"])
		require.Contains(t, s.all, event.Token(fmt.Sprint(2*maxSearched-1)))
	})
}
