package natsconn

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A server that does not read leaves writes waiting: they end when it has been
// silent for long enough, and no sooner.
func TestSocketOfASilentServerIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, servers := net.Pipe()
		s := watch(ours)
		defer func() { _ = s.Close() }()
		start := time.Now()
		_, err := s.Write([]byte("x")) // the pipe has no buffer
		require.ErrorIs(t, err, errSilent)
		require.True(t, s.givenUp.Load())
		require.Equal(t, giveUpLooks*lookInterval, time.Since(start))
		require.Less(t, time.Since(start), 4*time.Second)
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, errSilent)
		_ = servers.Close()
	})
}

func TestSocketOfAServerThatSpeaksIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, servers := net.Pipe()
		s := watch(ours)
		ping := time.NewTicker(pingInterval)
		defer ping.Stop()
		for range 100 {
			<-ping.C
			go func() { _, _ = servers.Write([]byte("PONG")) }()
			_, err := s.Read(make([]byte, 10))
			require.NoError(t, err)
		}
		require.NoError(t, s.Close())
		require.False(t, s.givenUp.Load())
		for range 2 * giveUpLooks {
			<-ping.C
		}
		require.False(t, s.givenUp.Load(), "nobody watches a closed socket")
		_ = servers.Close()
	})
}
