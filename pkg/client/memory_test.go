package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// worker counts what its handler is called with, in the bubble's time.
type worker struct {
	takes  time.Duration
	result func(id string, times int) error

	mu  sync.Mutex
	ids []string
}

// handled returns the ids that the handler was called with.
func (w *worker) handled() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ids)
}

func (w *worker) handle(ctx context.Context, e protocol.Event) error {
	w.mu.Lock()
	w.ids = append(w.ids, e.EventID)
	w.mu.Unlock()
	times := len(slices.DeleteFunc(w.handled(), func(id string) bool { return id != e.EventID }))
	select {
	case <-time.After(w.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.result == nil {
		return nil
	}
	return w.result(e.EventID, times)
}

func employ(w *worker) func(*client.Config) {
	return func(c *client.Config) { c.Handler = w.handle }
}

// Work of more than the ack timeout was done twice, as was all that was queued
// whenever the connection was lost.
func TestARepeatOfWhatIsInHandIsNotHandledAgain(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		w := &worker{takes: 40 * time.Second}
		d := start(t, g, employ(w), func(c *client.Config) { c.HeartbeatTimeout = time.Hour })
		p := g.authenticated()
		p.send(sampleEvent("running"), sampleEvent("queued"))
		synctest.Wait()
		p.send(sampleEvent("running"))
		synctest.Wait()
		_ = p.ws.CloseNow()
		d.state(client.StateDisconnected)
		p = g.authenticated()
		p.send(sampleEvent("running"), sampleEvent("queued"), sampleEvent("new"))
		var acked []string
		for len(acked) < 3 {
			acked = append(acked, nextOf[protocol.Ack](p).EventIDs...)
		}
		require.Equal(t, []string{"running", "queued", "new"}, acked)
		require.Equal(t, []string{"running", "queued", "new"}, w.handled())
	})
}

func TestARepeatOfWhatIsDoneIsAcknowledgedAgainWithoutHandling(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		w := &worker{}
		start(t, g, employ(w))
		p := g.authenticated()
		for range 3 {
			p.send(sampleEvent("e"))
			require.Equal(t, []string{"e"}, nextOf[protocol.Ack](p).EventIDs)
		}
		unacked := sampleEvent("no-ack")
		unacked.RequiresAck = false
		p.send(unacked, unacked, sampleEvent("last"))
		require.Equal(t, []string{"last"}, nextOf[protocol.Ack](p).EventIDs)
		require.Equal(t, []string{"e", "no-ack", "last"}, w.handled())
	})
}

func TestWhatTheHandlerFailedAtIsHandledWhenItComesAgain(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		w := &worker{result: func(_ string, times int) error {
			if times < 3 {
				return errors.New("not yet")
			}
			return nil
		}}
		start(t, g, employ(w))
		p := g.authenticated()
		for range 3 {
			p.send(sampleEvent("e"))
			synctest.Wait()
		}
		require.Equal(t, []string{"e"}, nextOf[protocol.Ack](p).EventIDs)
		require.Len(t, w.handled(), 3)
	})
}

func TestWhatIsAcknowledgedLaterIsInHandUntilThen(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		w := &worker{result: func(string, int) error { return client.ErrNoAck }}
		d := start(t, g, employ(w))
		p := g.authenticated()
		p.send(sampleEvent("e"), sampleEvent("e"))
		synctest.Wait()
		d.client.Ack("e")
		require.Equal(t, []string{"e"}, nextOf[protocol.Ack](p).EventIDs)
		p.send(sampleEvent("e"))
		require.Equal(t, []string{"e"}, nextOf[protocol.Ack](p).EventIDs)
		require.Equal(t, []string{"e"}, w.handled())
	})
}

func TestTheMemoryIsBounded(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		w := &worker{}
		start(t, g, employ(w))
		p := g.authenticated()
		const most = 4000
		for i := range most + 1 {
			p.send(sampleEvent(fmt.Sprintf("e%d", i)))
		}
		synctest.Wait()
		p.send(sampleEvent("e1"), sampleEvent("e0"))
		synctest.Wait()
		require.Equal(t, most+2, len(w.handled()))
		require.Equal(t, "e0", w.handled()[most+1])
	})
}

func TestHeartbeatsNameTheWorkInProgress(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		w := &worker{takes: 2 * time.Minute}
		d := start(t, g, employ(w))
		p := g.authenticated()
		p.send(sampleEvent("long"), sampleEvent("next"))
		synctest.Wait()
		for last := time.Now(); time.Since(last) < time.Minute; {
			before := time.Now()
			require.Equal(t, []string{"long"}, nextOf[protocol.Heartbeat](p).InProgress)
			require.LessOrEqual(t, time.Since(before), 15*time.Second, "well within the ack timeout")
			p.send(protocol.HeartbeatAck{})
		}
		_ = p.ws.CloseNow()
		d.state(client.StateDisconnected)
		p = g.authenticated()
		connected := time.Now()
		require.Equal(t, []string{"long"}, nextOf[protocol.Heartbeat](p).InProgress)
		require.Zero(t, time.Since(connected), "before it is sent again")
	})
}

// What needs no ack leaves the gateway's window when it is written: while the
// handler works on it, only what waits behind it can say that the daemon is at
// work. That used to go to the dead letters untouched.
func TestHeartbeatsNameWhatWaitsBehindWorkThatNeedsNoAck(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		w := &worker{takes: 2 * time.Minute}
		d := start(t, g, employ(w))
		p := g.authenticated()
		long := sampleEvent("long")
		long.RequiresAck = false
		p.send(long, sampleEvent("first"), sampleEvent("second"))
		synctest.Wait()
		require.Equal(t, []string{"first"}, nextOf[protocol.Heartbeat](p).InProgress)
		_ = p.ws.CloseNow()
		d.state(client.StateDisconnected)
		p = g.authenticated()
		require.Equal(t, []string{"first"}, nextOf[protocol.Heartbeat](p).InProgress)
		for len(w.handled()) < 3 {
			p.send(protocol.HeartbeatAck{})
			nextOf[protocol.Heartbeat](p)
		}
		require.Equal(t, []string{"second"}, nextOf[protocol.Heartbeat](p).InProgress)
	})
}

func TestHealthMayNameWorkOfItsOwn(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		start(t, g, func(c *client.Config) {
			c.Health = func() protocol.Heartbeat { return protocol.Heartbeat{InProgress: []string{"elsewhere"}} }
		})
		require.Equal(t, []string{"elsewhere"}, nextOf[protocol.Heartbeat](g.authenticated()).InProgress)
	})
}
