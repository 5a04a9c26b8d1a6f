package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// controlRoom is how many messages beside events may wait for the writer.
	controlRoom = 16
	// progressInterval is how often a heartbeat names an event that is being worked
	// on: a third of the time for which the gateway waits for it by default.
	progressInterval = protocol.DefaultAckTimeout / 3
	// minHeartbeat keeps a faulty gateway from making its clients flood it.
	minHeartbeat = 10 * time.Millisecond
	// minPause is for a gateway that limits the rate and names no time.
	minPause = time.Second
	// tokenRetry is the wait after a failure to get a fresh token while the
	// session still lives.
	tokenRetry = 5 * time.Second
)

var (
	// errLeft: this side closed gracefully.
	errLeft = errors.New("left")
	// errRead wraps what ended the reader.
	errRead = errors.New("connection lost")
)

// connection is one connection from dialing to its end: a reader, which hands
// events to the handler's queue, and talk, the only writer.
type connection struct {
	// Set by open.
	client    *Client
	url       string
	ws        *websocket.Conn
	network   net.Conn // under ws; closing it unblocks everything at once
	session   protocol.SessionID
	heartbeat time.Duration // the interval that the gateway asks for
	opened    time.Time

	// Shared by reader and talk.
	control chan protocol.ServerPayload // from the reader to talk
	heard   atomic.Int64                // when the last frame came, in nanoseconds since opened
	stalled atomic.Bool                 // the reader waits for the handler

	// Owned by talk; by open before.
	refused  *protocol.AuthError
	asked    bool      // the gateway asked to reconnect
	leaveAt  time.Time // when to leave, or not to come back before
	noAcks   time.Time // no ack before
	beatSent time.Time // the oldest heartbeat not yet known to be answered
	fetching bool      // the token source works on a fresh token
	renewing bool      // from then until the gateway has accepted it
	timers   timers
	tokens   chan freshToken
	tasks    sync.WaitGroup
}

// timers are what talk waits for beside messages.
type timers struct{ beat, progress, dead, leave, ack, subscribe, token *time.Timer }

func newTimers() timers {
	stopped := func() *time.Timer {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return timer
	}
	return timers{stopped(), stopped(), stopped(), stopped(), stopped(), stopped(), stopped()}
}

func (t timers) stop() {
	for _, timer := range []*time.Timer{t.beat, t.progress, t.dead, t.leave, t.ack, t.subscribe, t.token} {
		timer.Stop()
	}
}

type freshToken struct {
	token string
	err   error
}

// run speaks for the daemon until the connection ends, and leaves no goroutine
// behind; it returns errLeft after a graceful close by this side.
func (k *connection) run(ctx context.Context) error {
	// Reads and writes outlive ctx: a cancelled one cuts the connection off, and
	// when ctx ends it is to be closed gracefully.
	connected, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	ended := make(chan error, 1)
	go func() { ended <- k.read(connected) }()
	fetching, stopFetching := context.WithCancel(ctx)
	err := k.talk(ctx, connected, fetching, ended)
	stopFetching()
	k.tasks.Wait()
	switch {
	case errors.Is(err, errRead):
	case errors.Is(err, errLeft):
		k.close()
		cut()
		<-ended
	case errors.Is(err, ErrDead):
		_ = k.network.Close()
		cut()
		<-ended
	default:
		err = k.writeFailed(err, ended, cut)
	}
	k.hearRest()
	_ = k.ws.CloseNow()
	return err
}

// close says goodbye, and does not wait long for the answer.
func (k *connection) close() {
	timer := time.AfterFunc(k.client.cfg.CloseTimeout, func() { _ = k.network.Close() })
	defer timer.Stop()
	_ = k.ws.Close(websocket.StatusNormalClosure, "")
}

// writeFailed prefers what the reader learned: a gateway that closes says why,
// while a write only finds the connection gone.
func (k *connection) writeFailed(err error, ended <-chan error, cut func()) error {
	timer := time.NewTimer(k.client.cfg.CloseTimeout)
	defer timer.Stop()
	select {
	case cause := <-ended:
		return errors.Join(err, cause)
	case <-timer.C:
		_ = k.network.Close()
		cut()
		<-ended
		return err
	}
}

// read hands events to the handler, in order, and the rest to talk.
func (k *connection) read(ctx context.Context) error {
	for {
		payload, err := k.receive(ctx)
		if err != nil {
			return err
		}
		k.heard.Store(int64(time.Since(k.opened)))
		switch p := payload.(type) {
		case nil:
		case *protocol.Event:
			err = k.deliver(ctx, p)
		default:
			if p, ok := p.(protocol.Subscribed); ok {
				// Here, so that observers hear of it before the events.
				k.client.report(StateChange{State: StateSubscribed, URL: k.url, SessionID: k.session, Subscribed: &p})
			}
			select {
			case k.control <- p:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

// deliver queues an event for the handler, unless it is a repeat of one that is
// in hand or done.
func (k *connection) deliver(ctx context.Context, e *protocol.Event) error {
	switch k.client.memory.take(e) {
	case inHand:
		return nil
	case done:
		if e.RequiresAck {
			k.client.acks.add(e.EventID)
		}
		return nil
	case unknown:
	}
	select {
	case k.client.events <- e:
		return nil
	default:
	}
	k.stalled.Store(true)
	defer k.stalled.Store(false)
	select {
	case k.client.events <- e:
		k.heard.Store(int64(time.Since(k.opened)))
		return nil
	case <-ctx.Done():
		k.client.memory.forget(e.EventID)
		return ctx.Err()
	}
}

// talk does all that is sent, until the connection ends or ctx does.
func (k *connection) talk(ctx, connected, fetching context.Context, ended <-chan error) error {
	k.begin()
	defer k.timers.stop()
	if err := k.subscribe(connected); err != nil {
		return err
	}
	// Before the gateway sends the event again: this daemon has survived the
	// connection on which it came.
	if err := k.sendProgress(connected, 0); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			k.noAcks = time.Time{}
			_ = k.acknowledge(connected) // what is not sent comes again
			return errLeft
		case cause := <-ended:
			return fmt.Errorf("%w: %w", errRead, cause)
		case payload := <-k.control:
			k.hear(payload)
		case fresh := <-k.tokens:
			err = k.reauthenticate(connected, fresh)
		case <-k.client.acks.wake:
			k.timers.ack.Reset(max(0, time.Until(k.noAcks)))
		case <-k.timers.ack.C:
			err = k.acknowledge(connected)
		case <-k.timers.subscribe.C:
			err = k.subscribe(connected)
		case <-k.timers.token.C:
			k.fetchToken(fetching)
		case <-k.timers.beat.C:
			err = k.sendHeartbeat(connected)
		case <-k.timers.progress.C:
			err = k.sendProgress(connected, progressInterval/2)
		case <-k.timers.dead.C:
			err = k.checkAlive()
		case <-k.timers.leave.C:
			k.noAcks = time.Time{}
			if err = k.acknowledge(connected); err == nil {
				err = errLeft
			}
		}
		if err != nil {
			return err
		}
	}
}

func (k *connection) begin() {
	if k.heartbeat <= 0 {
		k.heartbeat = protocol.DefaultHeartbeatInterval
	}
	k.heartbeat = max(k.heartbeat, minHeartbeat)
	k.tokens = make(chan freshToken, 1)
	k.timers = newTimers()
	// The first one comes at a random moment, so that clients that connected
	// together do not beat together.
	k.timers.beat.Reset(time.Duration((0.5 + rand.Float64()/2) * float64(k.beatInterval())))
	if !k.client.acks.empty() {
		k.timers.ack.Reset(0)
	}
}

// hearRest takes what was said before the connection ended, such as why.
func (k *connection) hearRest() {
	defer k.timers.stop()
	for {
		select {
		case payload := <-k.control:
			k.hear(payload)
		default:
			return
		}
	}
}
