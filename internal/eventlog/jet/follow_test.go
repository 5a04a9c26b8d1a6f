package jet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

func TestSilenceOfTheServerEndsAWaitAndAWordDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &follower{what: Following{Silence: defaultSilence}, messages: make(chan *nats.Msg)}
		look := time.NewTimer(0)
		word := time.AfterFunc(defaultSilence-1, func() { f.messages <- &nats.Msg{} })
		defer word.Stop()
		for range 10 {
			msg, err := f.next(t.Context(), look)
			require.NoError(t, err)
			require.NotNil(t, msg)
			word.Reset(defaultSilence - 1)
		}
		word.Stop()
		start := time.Now()
		_, err := f.next(t.Context(), look)
		require.ErrorContains(t, err, "no heartbeat")
		require.Equal(t, defaultSilence, time.Since(start))
	})
}
