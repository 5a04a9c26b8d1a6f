package eventlog

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// A server that says nothing for two heartbeats is given up.
	pullHeartbeat = 250 * time.Millisecond
	pullExpiry    = 2 * time.Second
	// consumerInactive is how long a consumer outlives a follower that could not
	// delete it.
	consumerInactive = 30 * time.Second
	deleteTimeout    = time.Second
	// newsTime is how long the news that a consumer is there may take to the
	// server of this connection, longer than the answer that it was created.
	newsTime, newsPoll = 500 * time.Millisecond, 10 * time.Millisecond
	// leaveTime is how long a server that shuts down still takes consumers. It
	// says that it does some 50 ms before it gives its streams to others.
	leaveTime = 200 * time.Millisecond
	// defaultFollowBatch is how many messages one pull asks for, and so how many
	// wait in memory for a slow handler.
	defaultFollowBatch = 256
)

// followCause says why a consumer ended, as a metric label.
type followCause string

const (
	causeCreate followCause = "create"  // it could not be created
	causeSilent followCause = "silent"  // no heartbeat
	causeGap    followCause = "gap"     // a message went missing
	causeEnded  followCause = "ended"   // the server ended it
	causeHandle followCause = "handler" // the handler failed
)

// errShutdown: the server of the consumer is about to shut down.
var errShutdown = errors.New("the server leaves")

var followCauses = []followCause{causeCreate, causeSilent, causeGap, causeEnded, causeHandle}

// FollowOption changes how a partition is followed.
type FollowOption func(*follower)

// PullBatch sets how many messages are asked for at once.
func PullBatch(n int) FollowOption { return func(f *follower) { f.batch = max(n, 1) } }

// Follow calls handle for each message of the partition from sequence from on,
// sentinels included, in the order of the log and without a gap: what lies
// between two sequences that are handed over is no longer in the log. Then it
// waits for what comes. It uses an ephemeral consumer of its own and returns
// nil soon after ctx ends; any error means that it must be called again, from
// the sequence after the last one handled, and after a Refresh. Handle may
// block; the rest waits in the log.
func (l *Log) Follow(ctx context.Context, p event.Partition, from uint64, handle func(Message) error, options ...FollowOption) error {
	f := &follower{log: l, partition: p, stream: event.StreamName(p), last: max(from, 1) - 1, handle: handle, batch: defaultFollowBatch}
	for _, o := range options {
		o(f)
	}
	l.metrics.following.Inc()
	defer l.metrics.following.Dec()
	cause, err := f.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	l.metrics.restarts.WithLabelValues(string(cause)).Inc()
	return fmt.Errorf("follow partition %d: %s: %w", p, cause, classify(err))
}

// follower is one consumer's life. It pulls by itself and does not use the
// library's consumers: these take a stored message with an empty body and a
// "Status" header for a message of the server's, so that one forged event would
// halt its partition for ever; and their reset of an ordered consumer cannot be
// interrupted. All fields belong to the goroutine that called Follow.
type follower struct {
	log       *Log
	partition event.Partition
	stream    string
	batch     int
	handle    func(Message) error

	last      uint64 // sequence of the last message handled, or before the first
	delivered uint64 // how many messages this consumer has handed out
	consumer  string
	messages  chan *nats.Msg
}

func (f *follower) run(ctx context.Context) (followCause, error) {
	connection := f.log.outages.connection()
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
func (f *follower) consume(ctx, connection context.Context) (followCause, error) {
	// A pull that was under way when the connection was lost is silent at best.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(connection, func() { cancel(errConnectionLost) })()
	// One pull's messages, its heartbeats and its end fit into the channel, so
	// the connection's reader never drops one. Two pulls never overlap.
	f.messages = make(chan *nats.Msg, f.batch+64)
	inbox := f.log.nc.NewInbox()
	sub, err := f.log.nc.ChanSubscribe(inbox, f.messages)
	if err != nil {
		return causeCreate, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	request, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{f.batch, pullExpiry, pullHeartbeat})
	if err != nil {
		return causeCreate, err
	}
	known := time.Now().Add(newsTime)
	for {
		if err := f.log.nc.PublishRequest(f.log.api+"CONSUMER.MSG.NEXT."+f.stream+"."+f.consumer, inbox, request); err != nil {
			return causeSilent, err
		}
		switch cause, err := f.pull(ctx); {
		case errors.Is(err, nats.ErrNoResponders) && time.Now().Before(known):
			pause(ctx, newsPoll)
		case errors.Is(err, errShutdown):
			pause(ctx, leaveTime)
			return cause, err
		case err != nil:
			return cause, err
		}
	}
}

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// create makes the consumer. It names it, so that the request can be repeated
// when servers that elect a leader do not answer it: live delivery waits.
func (f *follower) create(ctx context.Context) error {
	f.consumer = "router-" + rand.Text()
	return f.log.request(ctx, func(ctx context.Context) error {
		_, err := ask(ctx, f.createOnce)
		return err
	})
}

func (f *follower) createOnce(ctx context.Context) (jetstream.Consumer, error) {
	return f.log.js.CreateConsumer(ctx, f.stream, jetstream.ConsumerConfig{
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
	if !f.log.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	if err := f.log.js.DeleteConsumer(ctx, f.stream, f.consumer); err != nil {
		f.log.logger.Debug("consumer is left to expire", "partition", f.partition, "error", err)
	}
}

// pull handles what one pull request brings, until it has ended.
func (f *follower) pull(ctx context.Context) (followCause, error) {
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for received := 0; received < f.batch; {
		// The handler's time is not the server's silence.
		silence.Reset(2 * pullHeartbeat)
		select {
		case <-ctx.Done():
			return causeSilent, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		case <-silence.C:
			return causeSilent, fmt.Errorf("%w: no heartbeat within %v", ErrUnavailable, 2*pullHeartbeat)
		case msg := <-f.messages:
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
	}
	return "", nil
}

// take hands a message over, after checking that none is missing before it:
// the consumer numbers what it delivers without gaps.
func (f *follower) take(msg *nats.Msg) (followCause, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return causeGap, err
	}
	if meta.Sequence.Consumer != f.delivered+1 || meta.Sequence.Stream <= f.last {
		return causeGap, fmt.Errorf("%w: message %d of the consumer at sequence %d came after %d at %d", ErrUnavailable,
			meta.Sequence.Consumer, meta.Sequence.Stream, f.delivered, f.last)
	}
	f.delivered = meta.Sequence.Consumer
	err = f.handle(Message{
		Token:    event.Token(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]),
		Sequence: meta.Sequence.Stream,
		Stored:   meta.Timestamp,
		Body:     msg.Data,
	})
	if err != nil {
		return causeHandle, err
	}
	f.last = meta.Sequence.Stream
	return "", nil
}

// pullStatus reads a message of the server's about the pull request: it goes on
// (a heartbeat), has ended in order, or the consumer is of no use any more.
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
