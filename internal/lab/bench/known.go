package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/load"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// knownFrom is the number of the first orchestrator that is only known: others than
// these are measured.
const knownFrom = 1_000_000

// remember has the log hold an event, and the buckets a cursor, for each of n
// orchestrators that do nothing else: what is measured then must not cost more
// than with none.
func (b *bench) remember(ctx context.Context, s *system, n int) error {
	if n == 0 {
		return nil
	}
	b.Say("storing an event and a cursor for each of %d orchestrators…", n)
	conn, err := nats.Connect(process.NATSURL(s.nats))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(2000),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			b.Find("%s was not stored: %v", m.Subject, err)
		}))
	if err != nil {
		return err
	}
	for i := range n {
		messages, err := known(load.Orchestrator(knownFrom+i), s.partitions)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if _, err := stream.PublishMsgAsync(m); err != nil {
				return fmt.Errorf("store what is known of an orchestrator: %w", err)
			}
		}
	}
	select {
	case <-stream.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// known is an event of an orchestrator, and its cursor, which has passed it.
func known(id protocol.OrchestratorID, partitions int) ([]*nats.Msg, error) {
	token, now := event.TokenOf(id), time.Now()
	body, err := json.Marshal(map[string]any{
		"id": "event_" + string(id), "type": "message.received", "orchestratorId": id, "timestamp": now.UTC(),
		"requiresAck": true, "priority": 1, "payload": map[string]string{"content": load.Content},
	})
	if err != nil {
		return nil, err
	}
	record, err := cursor.Record{Daemons: map[protocol.DaemonID]cursor.Entry{
		protocol.DaemonID("daemon_" + id): {Generation: 1, Floor: 1, Subscriptions: []protocol.Subscription{{Pattern: protocol.AllEvents}}, Written: now},
	}}.Encode()
	if err != nil {
		return nil, err
	}
	p := event.PartitionOf(token, partitions)
	return []*nats.Msg{
		{Subject: event.Subject(p, token), Data: body},
		{Subject: eventlog.BucketSubject(eventlog.CursorBucket(p), string(token)), Data: record},
	}, nil
}
