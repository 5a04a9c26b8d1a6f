package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// readBytes bounds the answer to one read.
const readBytes = 1 << 20

// Page is a part of one orchestrator's events.
type Page struct {
	// Messages stand in the order of the log.
	Messages []Message
	// Remaining is how many more the answering replica had after the last of
	// Messages, when it answered. It is at least 1 where there are more.
	Remaining uint64
}

// Read asks a replica for the events of one orchestrator from sequence from
// on: at most maxEvents (1 to 1,000), and none after the one with which the
// bodies reach maxBytes (at most 1 MiB). A replica may lag, so an event that is
// not in the page may exist nevertheless.
func (l *Log) Read(ctx context.Context, p event.Partition, token event.Token, from uint64, maxEvents, maxBytes int) (Page, error) {
	page, err := l.read(ctx, p, token, jet.ReadRequest{From: max(from, 1)}, maxEvents, maxBytes)
	if err != nil {
		return Page{}, fmt.Errorf("read partition %d from %d: %w", p, from, err)
	}
	return page, nil
}

// ReadSince is Read from the first event on that was stored at a time or later.
// It is for those who have no sequence to continue from: times come from the
// clock of whichever server led the partition.
func (l *Log) ReadSince(ctx context.Context, p event.Partition, token event.Token, since time.Time, maxEvents, maxBytes int) (Page, error) {
	page, err := l.read(ctx, p, token, jet.ReadRequest{Since: since}, maxEvents, maxBytes)
	if err != nil {
		return Page{}, fmt.Errorf("read partition %d since %s: %w", p, since.Format(time.RFC3339Nano), err)
	}
	return page, nil
}

func (l *Log) read(ctx context.Context, p event.Partition, token event.Token, req jet.ReadRequest, maxEvents, maxBytes int) (Page, error) {
	start := time.Now()
	req.Subject = event.Subject(p, token)
	req.Batch = min(max(maxEvents, 1), 1000)
	req.MaxBytes = min(max(maxBytes, 1), readBytes)
	found, err := l.jet.Read(ctx, event.StreamName(p), req)
	l.metrics.observe(opRead, start, err)
	if err != nil {
		return Page{}, err
	}
	if found.Unreadable {
		l.metrics.unreadable.Inc()
		l.logger.Error("a NATS server passes over events that it cannot read: a file of it is damaged", "partition", p, "orchestrator", string(token))
	}
	page := Page{Remaining: found.Remaining, Messages: make([]Message, len(found.Messages))}
	for i, m := range found.Messages {
		page.Messages[i] = Message{Token: token, Sequence: m.Sequence, Stored: m.Stored, Body: m.Data, Trace: l.traceOf(m)}
	}
	return page, nil
}

// Head is an event of the log without its body.
type Head struct {
	Sequence uint64
	Stored   time.Time
	// MessageID is that of event.MessageID; "" if it was published without one.
	MessageID string
	// Bytes of the body that was read all the same.
	Bytes int
}

// EachHead calls yield for each event that the log has of an orchestrator, from a
// sequence on. It is for those who look for few events among many. Where the log is
// Unmanaged bodies are read as well: then it ends when those have been maxBytes,
// and more reports that there are others.
func (l *Log) EachHead(ctx context.Context, p event.Partition, token event.Token, from uint64, maxBytes int, yield func(Head)) (more bool, err error) {
	start := time.Now()
	more, err = l.jet.Heads(ctx, event.StreamName(p), event.Subject(p, token), max(from, 1), maxBytes, func(h jet.Head) {
		yield(Head{Sequence: h.Sequence, Stored: h.Stored, MessageID: h.Header.Get(jetstream.MsgIDHeader), Bytes: h.Bytes})
	})
	l.metrics.observe(opRead, start, err)
	if err != nil {
		return false, fmt.Errorf("list the events of an orchestrator in partition %d: %w", p, err)
	}
	return more, nil
}
