package jet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

const (
	// A server that says nothing for two heartbeats is given up (Silence).
	pullHeartbeat  = 250 * time.Millisecond
	defaultSilence = 2 * pullHeartbeat
	pullExpiry     = 2 * time.Second
	// consumerInactive is how long a consumer outlives a follower that could not
	// delete it.
	consumerInactive = 30 * time.Second
	deleteTimeout    = time.Second
	// newsPoll is how soon a consumer is asked again where the server of this
	// connection has not heard of it yet: the answer that it was created may be
	// quicker than the news.
	newsPoll = 10 * time.Millisecond
	// leaveTime is how long a server that shuts down still takes consumers. It
	// says that it does some 50 ms before it gives its streams to others.
	leaveTime = 200 * time.Millisecond
)

// FollowCause says why a consumer ended, as a metric label.
type FollowCause string

const (
	causeCreate FollowCause = "create"  // it could not be created
	causeSilent FollowCause = "silent"  // no heartbeat
	causeGap    FollowCause = "gap"     // a message went missing
	causeEnded  FollowCause = "ended"   // the server ended it
	causeHandle FollowCause = "handler" // the handler failed
)

// errShutdown: the server of the consumer is about to shut down.
var errShutdown = errors.New("the server leaves")

// FollowCauses are all that there are.
var FollowCauses = []FollowCause{causeCreate, causeSilent, causeGap, causeEnded, causeHandle}

// Following says what to follow.
type Following struct {
	Stream string
	// From is the sequence from which on messages are wanted.
	From uint64
	// Name is what the names of consumers begin with.
	Name string
	// Batch is how many messages one pull asks for, and so how many wait in memory
	// for a slow handler.
	Batch int
	// Silence is how long the server may say nothing before it is given up; 0
	// means half a second.
	Silence time.Duration
	// Handle takes each message. It may block; the rest waits in the stream.
	Handle func(Message) error
}

// Follow hands over each message of the stream, in its order and without a gap:
// what lies between two sequences that are handed over is no longer there. Then
// it waits for what comes. It uses an ephemeral consumer of its own and returns
// soon after ctx ends, or when the consumer is of no use any more.
func (c *Client) Follow(ctx context.Context, what Following) (FollowCause, error) {
	if what.Silence == 0 {
		what.Silence = defaultSilence
	}
	f := &follower{client: c, what: what, last: max(what.From, 1) - 1}
	cause, err := f.run(ctx)
	return cause, Classify(err)
}

// follower is one consumer's life. It pulls by itself and does not use the
// library's consumers: these take a stored message with an empty body and a
// "Status" header for a message of the server's, so that one forged event would
// halt its partition for ever; and their reset of an ordered consumer cannot be
// interrupted. All fields belong to the goroutine that called Follow.
type follower struct {
	client *Client
	what   Following

	last      uint64 // sequence of the last message handled, or before the first
	delivered uint64 // how many messages this consumer has handed out
	consumer  string
	messages  chan *nats.Msg
}

func (f *follower) run(ctx context.Context) (FollowCause, error) {
	connection := f.client.outages.connection()
	if err := f.create(ctx); err != nil {
		return causeCreate, err
	}
	cause, err := f.consume(ctx, connection)
	// Where servers are in trouble they leave requests unanswered, and live
	// delivery waits for the next consumer: this one is left to expire.
	if ctx.Err() != nil || cause != causeSilent && cause != causeEnded {
		f.remove()
	}
	return cause, err
}

// consume pulls until the consumer is of no use any more, ctx ends or the
// connection is lost.
func (f *follower) consume(ctx, connection context.Context) (FollowCause, error) {
	// A pull that was under way when the connection was lost is silent at best.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(connection, func() { cancel(errConnectionLost) })()
	// One pull's messages, its heartbeats and its end fit into the channel, so
	// the connection's reader never drops one. Two pulls never overlap.
	f.messages = make(chan *nats.Msg, f.what.Batch+64)
	inbox := f.client.NC.NewInbox()
	sub, err := f.client.NC.ChanSubscribe(inbox, f.messages)
	if err != nil {
		return causeCreate, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	request, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{f.what.Batch, pullExpiry, pullHeartbeat})
	if err != nil {
		return causeCreate, err
	}
	known := time.Now().Add(f.what.Silence)
	for {
		if err := f.client.NC.PublishRequest(f.client.api+"CONSUMER.MSG.NEXT."+f.what.Stream+"."+f.consumer, inbox, request); err != nil {
			return causeSilent, err
		}
		switch cause, err := f.pull(ctx); {
		case errors.Is(err, nats.ErrNoResponders) && time.Now().Before(known):
			lifecycle.Sleep(ctx, newsPoll)
		case errors.Is(err, errShutdown):
			lifecycle.Sleep(ctx, leaveTime)
			return cause, err
		case err != nil:
			return cause, err
		}
	}
}

// create makes the consumer. It gives it a name, so that the request can be
// repeated when servers that elect a leader do not answer: live delivery waits
// for it.
func (f *follower) create(ctx context.Context) error {
	f.consumer = f.what.Name + rand.Text()
	return f.client.Request(ctx, func(ctx context.Context) error {
		_, err := Ask(ctx, f.createOnce)
		return err
	})
}

func (f *follower) createOnce(ctx context.Context) (jetstream.Consumer, error) {
	return f.client.JS.CreateConsumer(ctx, f.what.Stream, jetstream.ConsumerConfig{
		Name:              f.consumer,
		Description:       "Daemon gateway: a router",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       f.last + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: consumerInactive,
		MemoryStorage:     true,
		Replicas:          1,
	})
}

// remove deletes the consumer, if the server can be reached at all.
func (f *follower) remove() {
	if !f.client.NC.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	if err := f.client.JS.DeleteConsumer(ctx, f.what.Stream, f.consumer); err != nil {
		f.client.logger.Debug("consumer is left to expire", "stream", f.what.Stream, "error", err)
	}
}

// pull handles what one pull request brings, until it has ended.
func (f *follower) pull(ctx context.Context) (FollowCause, error) {
	look := time.NewTimer(f.what.Silence)
	defer look.Stop()
	for received := 0; received < f.what.Batch; {
		msg, err := f.next(ctx, look)
		if err != nil {
			return causeSilent, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if msg.Reply == "" {
			ended, err := pullStatus(msg)
			if err != nil {
				return causeEnded, err
			}
			if ended {
				return "", nil
			}
			continue
		}
		received++
		if cause, err := f.take(msg); err != nil {
			return cause, err
		}
	}
	return "", nil
}

// silentLooks looks without a word from the server are its silence. Looks are
// counted and not time: a process that stood still has not listened either. Nor
// is the handler's time the server's silence.
const silentLooks = 5

// next waits for what the server says next. look is the caller's, to be used
// again and again.
func (f *follower) next(ctx context.Context, look *time.Timer) (*nats.Msg, error) {
	for range silentLooks {
		look.Reset(f.what.Silence / silentLooks)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-look.C:
		case msg := <-f.messages:
			return msg, nil
		}
	}
	return nil, fmt.Errorf("no heartbeat within %v", f.what.Silence)
}

// take hands a message over, after checking that none is missing before it:
// the consumer numbers what it delivers without gaps.
func (f *follower) take(msg *nats.Msg) (FollowCause, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return causeGap, err
	}
	if meta.Sequence.Consumer != f.delivered+1 || meta.Sequence.Stream <= f.last {
		return causeGap, fmt.Errorf("%w: message %d of the consumer at sequence %d came after %d at %d", ErrUnavailable,
			meta.Sequence.Consumer, meta.Sequence.Stream, f.delivered, f.last)
	}
	f.delivered = meta.Sequence.Consumer
	err = f.what.Handle(Message{
		Subject:  msg.Subject,
		Sequence: meta.Sequence.Stream,
		Stored:   meta.Timestamp,
		Data:     msg.Data,
		header:   msg.Header,
	})
	if err != nil {
		return causeHandle, err
	}
	f.last = meta.Sequence.Stream
	return "", nil
}

// pullStatus reads a message of the server's about the pull request: it goes on
// (a heartbeat), has ended gracefully, or the consumer is of no use any more.
// Stored messages always have a reply subject, and never come here.
func pullStatus(msg *nats.Msg) (ended bool, err error) {
	code, description := lastHeader(msg.Header, headerStatus), lastHeader(msg.Header, headerDescription)
	switch code {
	case "100":
		return false, nil
	case "404", "408":
		return true, nil
	case statusNoResponders:
		return true, nats.ErrNoResponders
	}
	err = fmt.Errorf("%w: the server said %s %s", ErrUnavailable, code, description)
	if description == "Server Shutdown" {
		err = fmt.Errorf("%w: %w", errShutdown, err)
	}
	return true, err
}
