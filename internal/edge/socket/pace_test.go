package socket

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAPaceLetsABurstPassAndThenKeepsTheRate(t *testing.T) {
	t.Parallel()
	var p pace
	r := rate{perSecond: 10, burst: 20}
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	require.Zero(t, p.take(15, now, r))
	require.Zero(t, p.take(5, now, r))
	require.Equal(t, 500*time.Millisecond, p.take(5, now, r))
	now = now.Add(500 * time.Millisecond)
	require.Equal(t, time.Second, p.take(10, now, r))
	now = now.Add(time.Hour)
	require.Zero(t, p.take(20, now, r), "rest gives back the burst, and no more")
	require.Equal(t, time.Second, p.take(10, now, r))
}

// A peer that writes without end was read as fast as a core could: ten of them
// made the other daemons of an edge wait fifty times as long for their events.
func TestAFloodIsReadAtTheRateThatMessagesNeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		peer, conn := net.Pipe()
		c := newCorkedConn(conn, nil, time.Minute)
		c.in.rate = rate{perSecond: 64 << 10, burst: 256 << 10}
		go func() {
			defer func() { _ = peer.Close() }()
			_, _ = peer.Write(make([]byte, 1<<20))
		}()
		start := time.Now()
		n, err := io.Copy(io.Discard, c)
		require.NoError(t, err)
		require.Equal(t, int64(1<<20), n, "it is read slowly, not dropped")
		require.Equal(t, 12*time.Second, time.Since(start).Round(time.Second), "a MiB, less a burst of 256 KiB, at 64 KiB a second")
	})
}

func TestAPeerThatSaysLittleIsNeverWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		peer, conn := net.Pipe()
		c := newCorkedConn(conn, nil, time.Minute)
		c.in.rate = rate{perSecond: 1 << 10, burst: 4 << 10}
		go func() {
			defer func() { _ = peer.Close() }()
			for range 100 {
				_, _ = peer.Write(make([]byte, 1<<10))
				<-time.After(time.Second)
			}
		}()
		start := time.Now()
		_, err := io.Copy(io.Discard, c)
		require.NoError(t, err)
		require.Equal(t, 100*time.Second, time.Since(start))
	})
}

// Each ping cost a pong, and no limit counted them.
func TestPingsWithoutEndAreAnsweredSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Socket{ended: make(chan struct{})}
		start := time.Now()
		for range int(pingRate.burst) {
			s.pacePing()
		}
		require.Zero(t, time.Since(start), "those that anybody needs are answered at once")
		for range 10 {
			s.pacePing()
		}
		require.Equal(t, 2*time.Second, time.Since(start))
		close(s.ended)
		s.pacePing()
		require.Equal(t, 2*time.Second, time.Since(start), "a socket that closes waits for nothing")
	})
}
