package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// pumping is a pump that runs until the test ends.
type pumping struct {
	*pump
	away atomic.Bool // NATS is
}

// startPump runs a pump with room for so many messages over a log of the test's.
func startPump(t *testing.T, log store, book *addressBook, room int, change ...func(*pump)) *pumping {
	t.Helper()
	p := &pumping{}
	p.pump = newPump(newInbox(room, maxBufferBytes), nil, book, func() bool { return !p.away.Load() },
		event.DefaultMaxBytes, newMetrics(prometheus.NewPedanticRegistry()), discard)
	for _, f := range change {
		f(p.pump)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.run(ctx, log)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return p
}

// request asks for an event to be stored, and returns how that ends.
func (p *pumping) request(ctx context.Context, number int) chan error {
	e, err := event.Parse([]byte(eventJSON("vp", number)), event.DefaultMaxBytes)
	ended := make(chan error, 1)
	go func() {
		if err == nil {
			_, err = p.settle(ctx, publishUser(e, []byte(eventJSON("vp", number))), false)
		}
		ended <- err
	}()
	return ended
}

func (p *pumping) hear(orchestrator string, number int) {
	p.inbox.push(heard{channel: "daemon:events", body: []byte(eventJSON(orchestrator, number))})
}

// TestARequestIsNotTriedAgain: whoever waits is told at once that the log has
// not taken an event, also behind one that was heard and is tried again and
// again.
func TestARequestIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	log := newFaultyStore()
	p := startPump(t, log, nil, 10)
	log.fail = func(int, event.Token, string) error { return eventlog.ErrLogFull }
	p.hear("vp", 0)
	eventually(t, func() bool { return testutil.ToFloat64(p.metrics.retries) > 0 }, "what was heard is tried again")
	for n := range 3 {
		require.ErrorIs(t, <-p.request(t.Context(), n+1), eventlog.ErrLogFull)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	for n := range 3 {
		require.Equal(t, 1, log.tries[eventIDs("vp", n+1, n+2)[0]])
	}
}

// blocked has the log stand still with a request until release is called.
func (p *pumping) blocked(t *testing.T, log *faultyStore) (first chan error, release func()) {
	t.Helper()
	begun, released := make(chan struct{}), make(chan struct{})
	log.fail = func(_ int, _ event.Token, id string) error {
		if id == eventIDs("vp", 0, 1)[0] {
			close(begun)
			<-released
		}
		return nil
	}
	first = p.request(t.Context(), 0)
	<-begun
	return first, sync.OnceFunc(func() { close(released) })
}

// TestARequestThatIsHeldIsNotStoredLater: neither when those who wait for it
// have gone, nor after NATS was away.
func TestARequestThatIsHeldIsNotStoredLater(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		happens func(p *pumping, leave func())
		want    error
	}{
		"they have gone": {func(_ *pumping, leave func()) { leave() }, context.Canceled},
		"NATS is away":   {func(p *pumping, _ func()) { p.away.Store(true) }, eventlog.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newFaultyStore()
			p := startPump(t, log, nil, 10)
			first, release := p.blocked(t, log)
			defer release()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			held := decode(heard{body: []byte(eventJSON("vp", 1))}, event.DefaultMaxBytes)
			held.request = &request{ctx: ctx, answer: make(chan settled, 1)}
			p.submitted <- held
			tt.happens(p, leave)
			release()
			require.NoError(t, <-first)
			require.ErrorIs(t, (<-held.request.answer).err, tt.want)
			p.away.Store(false)
			require.NoError(t, <-p.request(t.Context(), 2))
			require.Equal(t, append(eventIDs("vp", 0, 1), eventIDs("vp", 2, 3)...), log.stored["vp"])
		})
	}
}

// TestAPumpThatEndsLetsNobodyWait: though the log has not answered.
func TestAPumpThatEndsLetsNobodyWait(t *testing.T) {
	t.Parallel()
	log := newFaultyStore()
	p := startPump(t, log, nil, 10)
	first, release := p.blocked(t, log)
	defer release()
	p.inbox.close()
	require.ErrorIs(t, <-first, errEnded)
	require.ErrorIs(t, <-p.request(t.Context(), 1), errEnded)
}

// TestRequestsTakeNoRoomFromWhatIsHeard: that cannot be had again.
func TestRequestsTakeNoRoomFromWhatIsHeard(t *testing.T) {
	t.Parallel()
	const room = 5
	log := newFaultyStore()
	p := startPump(t, log, nil, room)
	log.fail = func(_ int, token event.Token, _ string) error {
		if token == "stuck" {
			return eventlog.ErrLogFull
		}
		return nil
	}
	for n := range room {
		p.hear("stuck", n)
	}
	eventually(t, func() bool { return p.depth() == room }, "the buffer is full")
	for n := range 2 * room {
		require.NoError(t, <-p.request(t.Context(), n))
	}
	require.Equal(t, eventIDs("vp", 0, 2*room), log.stored["vp"])
	require.Equal(t, room, p.depth())
	require.Zero(t, testutil.ToFloat64(p.metrics.dropped))
	require.Zero(t, testutil.ToFloat64(p.metrics.published), "those who bring requests count them")
}
