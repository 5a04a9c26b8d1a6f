package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// controlRoom is how many messages beside events may wait for the writer.
	controlRoom = 16
	// defaultHeartbeat is for a gateway that names no interval.
	defaultHeartbeat = 30 * time.Second
)

// errLeft: this side closed in order.
var errLeft = errors.New("left")

// connection is one connection from dialing to its end: a reader, which hands
// events to the handler's queue, and run, the only writer.
type connection struct {
	client          *Client
	url             string
	ws              *websocket.Conn
	session         protocol.SessionID
	heartbeat       time.Duration
	authenticatedAt time.Time
	refused         *protocol.AuthError
	asked           bool // the gateway asked to reconnect, at leaveAt
	leaveAt         time.Time

	control chan protocol.ServerPayload // from the reader to run

	// Owned by run.
	subscribed  bool
	lastAck     time.Time
	unanswered  bool // a heartbeat waits for its answer
	beat        *time.Timer
	dead        *time.Timer
	leave       *time.Timer
	ackDue      *time.Timer
	resubscribe *time.Timer
	tokens      chan freshToken
}

type freshToken struct {
	token string
	err   error
}

// run speaks for the daemon until the connection ends; it returns errLeft
// after an orderly close by this side.
func (k *connection) run(ctx context.Context) error {
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	ended := make(chan error, 1)
	go func() { ended <- k.read(reading) }()
	err := k.talk(ctx, ended)
	if errors.Is(err, errLeft) {
		k.close()
	} else {
		_ = k.ws.CloseNow()
	}
	stopReading()
	if !errors.Is(err, errRead) {
		<-ended
	}
	return err
}

// errRead wraps what ended the reader.
var errRead = errors.New("connection lost")

// close says goodbye, and does not wait long for the answer.
func (k *connection) close() {
	cut := time.AfterFunc(k.client.cfg.CloseTimeout, func() { _ = k.ws.CloseNow() })
	defer cut.Stop()
	_ = k.ws.Close(websocket.StatusNormalClosure, "")
}

// read hands events to the handler, in order, and the rest to talk.
func (k *connection) read(ctx context.Context) error {
	for {
		payload, err := k.receive(ctx)
		if err != nil {
			return err
		}
		switch p := payload.(type) {
		case nil:
		case *protocol.Event:
			select {
			case k.client.events <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			if p, ok := p.(protocol.Subscribed); ok {
				// Here, so that observers hear of it before the events.
				k.client.report(StateChange{State: StateSubscribed, URL: k.url, SessionID: k.session, Subscribed: &p})
			}
			select {
			case k.control <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (k *connection) talk(ctx context.Context, ended <-chan error) error {
	if k.heartbeat <= 0 {
		k.heartbeat = defaultHeartbeat
	}
	fetching, stopFetching := context.WithCancel(ctx)
	defer stopFetching()
	k.tokens = make(chan freshToken, 1)
	k.beat = time.NewTimer(k.heartbeat)
	for _, timer := range []**time.Timer{&k.dead, &k.leave, &k.ackDue, &k.resubscribe} {
		*timer = stopped()
		defer (*timer).Stop()
	}
	defer k.beat.Stop()
	if err := k.subscribe(ctx); err != nil {
		return err
	}
	if !k.client.acks.empty() {
		k.ackDue.Reset(0)
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return errLeft
		case cause := <-ended:
			k.hearRest(fetching)
			return fmt.Errorf("%w: %w", errRead, cause)
		case payload := <-k.control:
			k.hear(fetching, payload)
		case fresh := <-k.tokens:
			err = k.reauthenticate(ctx, fresh)
		case <-k.client.acks.wake:
			k.ackDue.Reset(max(0, k.client.cfg.AckInterval-time.Since(k.lastAck)))
		case <-k.ackDue.C:
			err = k.acknowledge(ctx)
		case <-k.resubscribe.C:
			err = k.subscribe(ctx)
		case <-k.beat.C:
			err = k.sendHeartbeat(ctx)
		case <-k.dead.C:
			return fmt.Errorf("%w: no answer to a heartbeat within %s", ErrDead, k.patience())
		case <-k.leave.C:
			if err = k.acknowledge(ctx); err == nil {
				return errLeft
			}
		}
		if err != nil {
			return err
		}
	}
}

func stopped() *time.Timer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return timer
}

// hearRest takes what was said before the connection ended, such as why.
func (k *connection) hearRest(ctx context.Context) {
	for {
		select {
		case payload := <-k.control:
			k.hear(ctx, payload)
		default:
			return
		}
	}
}

// hear acts on a message that is no event.
func (k *connection) hear(ctx context.Context, payload protocol.ServerPayload) {
	switch p := payload.(type) {
	case protocol.Subscribed:
		k.subscribed = true
	case protocol.HeartbeatAck:
		k.unanswered = false
		k.dead.Stop()
	case protocol.TokenExpiring:
		k.fetchToken(ctx)
	case protocol.Reconnection:
		if !k.asked {
			k.asked, k.leaveAt = true, time.Now().Add(p.Delay)
			k.leave.Reset(p.Delay)
		}
	case protocol.RateLimit:
		k.pause(p)
	case protocol.AuthError:
		k.refused = &p
	case *protocol.Fault:
		k.client.cfg.Logger.Warn("gateway reports an error", "code", string(p.Code), "field", p.Field, "error", p.Message)
	}
}

// pause keeps to a limit: what was not carried out is sent again after it.
func (k *connection) pause(limit protocol.RateLimit) {
	k.client.cfg.Logger.Warn("gateway limits the rate", "action", limit.Action, "retryAfter", limit.RetryAfter)
	switch protocol.MessageType(limit.Action) {
	case protocol.TypeHeartbeat:
		k.unanswered = false
		k.dead.Stop()
		k.beat.Reset(max(limit.RetryAfter, k.heartbeat))
	case protocol.TypeAck:
		k.lastAck = time.Now().Add(limit.RetryAfter)
	default:
		if !k.subscribed && len(k.client.cfg.Subscriptions) > 0 {
			k.resubscribe.Reset(limit.RetryAfter)
		}
	}
}

func (k *connection) subscribe(ctx context.Context) error {
	for _, s := range k.client.cfg.Subscriptions {
		if err := k.send(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (k *connection) acknowledge(ctx context.Context) error {
	if wait := time.Until(k.lastAck); wait > 0 {
		k.ackDue.Reset(wait)
		return nil
	}
	for ids := k.client.acks.take(); len(ids) > 0; ids = k.client.acks.take() {
		if err := k.send(ctx, protocol.Ack{EventIDs: ids}); err != nil {
			k.client.acks.add(ids...)
			return err
		}
	}
	k.lastAck = time.Now()
	return nil
}

// sendHeartbeat sends one and expects an answer. What is sent while one waits
// does not extend the wait.
func (k *connection) sendHeartbeat(ctx context.Context) error {
	k.beat.Reset(k.heartbeat)
	if !k.unanswered {
		k.unanswered = true
		k.dead.Reset(k.patience())
	}
	return k.send(ctx, k.client.cfg.Health())
}

func (k *connection) patience() time.Duration {
	if t := k.client.cfg.HeartbeatTimeout; t > 0 {
		return t
	}
	return k.heartbeat
}

// fetchToken gets a fresh token in the background, because that may take long
// and nothing else should wait. Its context ends with the connection; the room
// in tokens lets it end even if nobody listens any more.
func (k *connection) fetchToken(ctx context.Context) {
	go func() {
		token, err := k.client.cfg.Token(ctx)
		select {
		case k.tokens <- freshToken{token, err}:
		default:
		}
	}()
}

func (k *connection) reauthenticate(ctx context.Context, fresh freshToken) error {
	if fresh.err != nil {
		// The session goes on until the old token expires; then the next
		// connection asks again.
		k.client.cfg.Logger.Warn("no fresh token", "error", fresh.err)
		return nil
	}
	return k.send(ctx, k.auth(fresh.token, false))
}
