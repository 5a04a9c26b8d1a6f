package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// concurrentReads bounds the reads under way on the connection, as
// concurrentLast does for the questions in bulk; readBytes bounds each.
const (
	concurrentReads = 8
	readBytes       = 1 << 20
)

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
	start := time.Now()
	page, err := l.read(ctx, p, token, from, maxEvents, maxBytes)
	err = classify(err)
	l.metrics.observe(opRead, start, err)
	if err != nil {
		return Page{}, fmt.Errorf("read partition %d from %d: %w", p, from, err)
	}
	return page, nil
}

func (l *Log) read(ctx context.Context, p event.Partition, token event.Token, from uint64, maxEvents, maxBytes int) (Page, error) {
	release, err := acquire(ctx, l.reads)
	if err != nil {
		return Page{}, err
	}
	defer release()
	answer, err := l.direct(ctx, event.StreamName(p), directRequest{
		Seq:      max(from, 1),
		NextFor:  event.Subject(p, token),
		Batch:    min(max(maxEvents, 1), 1000),
		MaxBytes: min(max(maxBytes, 1), readBytes),
	})
	if err != nil {
		return Page{}, err
	}
	page := Page{Remaining: answer.pending, Messages: make([]Message, len(answer.messages))}
	for i, m := range answer.messages {
		page.Messages[i] = Message{Token: token, Sequence: m.sequence, Stored: m.stored, Body: m.data}
	}
	return page, nil
}
