package eventlog_test

import (
	"context"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// A partition whose servers stand still, or cannot be reached, is silent. Those who
// read it wait for long; those who read others must not.
func TestAStreamThatIsSilentHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	const askers = 64
	for name, ask := range map[string]func(context.Context, *eventlog.Log, event.Token) error{
		"reads": func(ctx context.Context, l *eventlog.Log, token event.Token) error {
			_, err := l.Read(ctx, l.Partition(token), token, 1, 1, 1)
			return err
		},
		"questions in bulk": func(ctx context.Context, l *eventlog.Log, token event.Token) error {
			_, err := l.LastSequences(ctx, l.Partition(token), []event.Token{token})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := setup(t)
			silent, other := tokensOf(l, 0, 1)[0], tokensOf(l, 1, 1)[0]
			publish(t, l, other, "e", "x")
			js, stream := s.JetStream(), event.StreamName(0)
			require.NoError(t, js.DeleteStream(t.Context(), stream))
			heard := make(chan struct{}, 1<<16)
			testserver.Answer(t, js.Conn(), "$JS.API.DIRECT.GET."+stream, func(*nats.Msg) { heard <- struct{}{} })

			ctx, cancel := context.WithCancel(t.Context())
			var asking sync.WaitGroup
			for range askers {
				asking.Go(func() {
					for ctx.Err() == nil {
						_ = ask(ctx, l, silent)
					}
				})
			}
			<-heard
			require.NoError(t, ask(t.Context(), l, other))
			tries := len(heard)
			cancel()
			asking.Wait()
			require.Less(t, tries, askers, "questions that were not answered meanwhile")
		})
	}
}
