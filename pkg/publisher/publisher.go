// Package publisher stores events in the gateway's log, for backends that
// speak NATS themselves. The log keeps the first of each event id (of one
// orchestrator) within its duplicate window, so an event whose outcome is not
// known is simply published again.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// What callers tell apart; each error of Publish that may succeed later wraps
// one of these. What wraps neither is wrong with the event or with its size, or
// the caller's: its context was cancelled, or its connection closed for good.
var (
	// ErrUnavailable: the log did not answer. The event may be stored or not;
	// publish it again.
	ErrUnavailable = errors.New("event log unavailable")
	// ErrFull: the log refuses events until some expire or it is enlarged. The error
	// says which limit it is.
	ErrFull = errors.New("event log full")
)

// Retryable reports whether publishing the same event again may succeed.
func Retryable(err error) bool { return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFull) }

// InboxPrefix is under what the NATS user of backends is answered where it may
// do nothing but publish events, so that no backend can read what the gateway's
// nodes are answered. Whoever connects as such a user gives it to the connection:
//
//	nats.Connect(url, nats.CustomInboxPrefix(publisher.InboxPrefix))
const InboxPrefix = "_INBOX_backend"

// Config says what the cluster was created with.
type Config struct {
	// Partitions is the cluster's PARTITIONS. 0: the cluster is asked before the
	// first event is published, for which the connection's user needs permission
	// to publish to $JS.API.STREAM.INFO.KV_gateway_cluster and to
	// $JS.API.DIRECT.GET.KV_gateway_cluster.$KV.gateway_cluster.partitions.
	Partitions int
	// MaxEventBytes is the cluster's MAX_EVENT_BYTES. 0: its default, 256 KiB.
	MaxEventBytes int
}

// Publisher stores events. It may be used by any number of goroutines; to keep
// the order of one orchestrator's events, wait for one before the next.
type Publisher struct {
	js            jetstream.JetStream
	maxEventBytes int
	partitions    atomic.Int64  // 0: not known yet
	asking        chan struct{} // holds one while the cluster is asked
}

// New returns a publisher on a connection of the caller's. It sends nothing. Where
// the log is in the domain of a hub and the connection with its leaf node, js is one
// of jetstream.NewWithDomain, and the permissions above begin with $JS.<domain>.API.
func New(js jetstream.JetStream, cfg Config) (*Publisher, error) {
	if cfg.MaxEventBytes == 0 {
		cfg.MaxEventBytes = event.DefaultMaxBytes
	}
	if cfg.Partitions < 0 || cfg.MaxEventBytes < 1 {
		return nil, fmt.Errorf("publisher: %d partitions and %d bytes an event, expected 0 or more and at least 1", cfg.Partitions, cfg.MaxEventBytes)
	}
	p := &Publisher{js: js, maxEventBytes: cfg.MaxEventBytes, asking: make(chan struct{}, 1)}
	p.partitions.Store(int64(cfg.Partitions))
	return p, nil
}

// Ack is the log's receipt: the event is stored.
type Ack struct {
	Partition event.Partition
	// Sequence is where the event stands in its partition; that of the first
	// for a duplicate.
	Sequence uint64
	// Duplicate: the event was there already.
	Duplicate bool
}

// electionPoll is how soon a partition that has no leader is tried again, and
// electionPolls how often. A leader that leaves gracefully is followed by the
// next one within milliseconds.
const electionPoll, electionPolls = 25 * time.Millisecond, 20

// Publish stores an event and returns when it is stored. It waits for as long as
// ctx says, and at most 5 s (jetstream.WithDefaultTimeout) where ctx has no
// deadline. What is wrong with an invalid event is an *event.InvalidError; see
// Retryable for the rest.
//
// An event whose outcome is not known is to be published again with the same id
// and within the log's duplicate window (2 minutes, unless DUPLICATE_WINDOW says
// otherwise): then it is stored once. After the window it is stored, and
// delivered, a second time.
//
// An event's Trace goes into the message's headers, and the gateway continues that
// trace.
func (p *Publisher) Publish(ctx context.Context, e event.Event) (Ack, error) {
	body, err := e.MarshalJSON()
	if err != nil {
		return Ack{}, fmt.Errorf("publish event %q: %w", e.ID, err)
	}
	return p.PublishJSON(ctx, body)
}

// PublishJSON is Publish for an event that is JSON already. It is stored byte
// for byte.
func (p *Publisher) PublishJSON(ctx context.Context, body []byte) (Ack, error) {
	e, err := event.ParseInPlace(body, p.maxEventBytes)
	if err != nil {
		return Ack{}, err
	}
	partitions, err := p.count(ctx)
	if err != nil {
		return Ack{}, fmt.Errorf("publish event %q: %w", e.ID, err)
	}
	token := event.TokenOf(e.OrchestratorID)
	partition := event.PartitionOf(token, partitions)
	msg := nats.NewMsg(event.Subject(partition, token))
	msg.Header.Set(jetstream.MsgIDHeader, event.MessageID(token, e.ID))
	setTrace(msg.Header, e)
	msg.Data = body
	ack, err := p.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(event.StreamName(partition)),
		jetstream.WithRetryWait(electionPoll), jetstream.WithRetryAttempts(electionPolls))
	if err != nil {
		return Ack{}, fmt.Errorf("publish event %q to partition %d: %w", e.ID, partition, classify(err))
	}
	return Ack{Partition: partition, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// maxTraceHeader is the longest that a header may be: JetStream refuses an event whose
// headers have 64 KiB, and a trace is no reason to lose one.
const maxTraceHeader = 512

// setTrace writes where an event stands in a trace, unless nobody could use that.
func setTrace(header nats.Header, e event.Event) {
	if !event.ValidTraceparent(e.Traceparent()) || len(e.Traceparent()) > maxTraceHeader {
		return
	}
	header.Set(event.HeaderTraceparent, e.Traceparent())
	if state := e.Tracestate(); state != "" && len(state) <= maxTraceHeader {
		header.Set(event.HeaderTracestate, state)
	}
}

// count returns the number of partitions, which never changes. Only one caller at
// a time asks for it.
func (p *Publisher) count(ctx context.Context) (int, error) {
	if n := p.partitions.Load(); n > 0 {
		return int(n), nil
	}
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: the number of partitions is not known yet: %w", ErrUnavailable, ctx.Err())
	}
	if n := p.partitions.Load(); n > 0 {
		return int(n), nil
	}
	n, err := p.ask(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the number of partitions, which Config.Partitions would save: %w", classify(err))
	}
	p.partitions.Store(int64(n))
	return n, nil
}

// ask reads what the cluster was created with.
func (p *Publisher) ask(ctx context.Context) (int, error) {
	bucket, err := p.js.KeyValue(ctx, event.ClusterBucket)
	if err != nil {
		return 0, fmt.Errorf("bucket %s: %w", event.ClusterBucket, err)
	}
	entry, err := bucket.Get(ctx, event.PartitionsKey)
	if err != nil {
		return 0, fmt.Errorf("key %s of bucket %s: %w", event.PartitionsKey, event.ClusterBucket, err)
	}
	n, err := strconv.Atoi(string(entry.Value()))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("key %s of bucket %s is %q, expected a number of at least 1", event.PartitionsKey, event.ClusterBucket, entry.Value())
	}
	return n, nil
}

// JetStream error codes that its client library does not name.
const (
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeStorageExceeded       jetstream.ErrorCode = 10047
	codeAccountResources      jetstream.ErrorCode = 10002
	codeStoreFailed           jetstream.ErrorCode = 10077
)

// fullness says why there is no room, and what makes some; "" where there is.
func fullness(api *jetstream.APIError) string {
	switch {
	case api.ErrorCode == codeStoreFailed && strings.Contains(api.Description, "maximum bytes"):
		return "the partition has as many bytes as it may; it takes events again when some expire, or with a larger LOG_MAX_BYTES"
	case api.ErrorCode == codeStoreFailed && strings.Contains(api.Description, "maximum messages"):
		return "the partition has as many events as its stream's max_msgs, which is no limit of the gateway's: it takes events again without it, or when some expire"
	case api.ErrorCode == codeStorageExceeded, api.ErrorCode == codeInsufficientResources, api.ErrorCode == codeAccountResources:
		return "the NATS server or the account has no storage left; it takes events again with a larger max_file_store, or limit of the account"
	}
	return ""
}

// classify wraps an error in what it means to the caller.
func classify(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &api):
		if why := fullness(api); why != "" {
			return fmt.Errorf("%w: %s: %w", ErrFull, why, err)
		}
		if api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum {
			return err
		}
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrConnectionClosed):
		// A closed connection never comes back: its owner has to make a new one.
		return err
	}
	// What is left says nothing of the event: a connection or an answer that is
	// missing, an earlier publish of it that is not stored yet and may fail, or
	// something that nobody has met.
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
