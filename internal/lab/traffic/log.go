package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Log reads what the cluster keeps in JetStream.
type Log struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// OpenLog connects to NATS, which must be there, and stays connected, over the
// server's restarts as well, until Close.
func OpenLog(url string, options ...nats.Option) (*Log, error) {
	nc, err := nats.Connect(url, append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		// A server that went silent is left soon.
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2),
		// Whoever asks is told; the library would write to standard error.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", settings.URL(url), err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &Log{nc: nc, js: js}, nil
}

// JetStream is the connection's own.
func (l *Log) JetStream() jetstream.JetStream { return l.js }

// Close disconnects.
func (l *Log) Close() { l.nc.Close() }

// Record tells a ledger where the log holds what, and what is in the dead
// letters, as of now.
func (l *Log) Record(ctx context.Context, to *ledger.Ledger, partitions int) error {
	for p := range event.Partition(partitions) {
		if err := l.recordPartition(ctx, to, p, partitions); err != nil {
			return err
		}
	}
	letters, err := l.DeadLetters(ctx)
	for _, letter := range letters {
		to.Buried(protocol.OrchestratorID(letter.Orchestrator), letter.EventID)
	}
	return err
}

// recordPartition leaves out what stands in a partition that it does not belong
// to: a router takes it to where it belongs.
func (l *Log) recordPartition(ctx context.Context, to *ledger.Ledger, p event.Partition, partitions int) error {
	return l.each(ctx, event.StreamName(p), true, func(m jetstream.Msg, at *jetstream.MsgMetadata) error {
		if strings.HasSuffix(m.Subject(), "."+string(event.SentinelToken)) {
			return nil
		}
		orchestrator, id, err := addressee(m.Headers().Get(jetstream.MsgIDHeader))
		if err != nil {
			return fmt.Errorf("partition %d, sequence %d: %w", p, at.Sequence.Stream, err)
		}
		if event.PartitionOf(event.TokenOf(orchestrator), partitions) != p {
			return nil
		}
		to.Stored(orchestrator, id, ledger.Place{Partition: p, Sequence: at.Sequence.Stream, When: at.Timestamp})
		return nil
	})
}

// addressee reads the message id that event.MessageID makes.
func addressee(messageID string) (protocol.OrchestratorID, string, error) {
	first, second, ok := strings.Cut(messageID, "/")
	if !ok {
		return "", "", fmt.Errorf("message id %q", messageID)
	}
	orchestrator, err := event.Token(first).Orchestrator()
	if err != nil {
		return "", "", err
	}
	id, err := event.Token(second).ID()
	return orchestrator, id, err
}

// DeadLetters returns all dead letters, oldest first.
func (l *Log) DeadLetters(ctx context.Context) ([]eventlog.DeadLetterRecord, error) {
	var all []eventlog.DeadLetterRecord
	err := l.each(ctx, eventlog.DeadletterStream, false, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		var r eventlog.DeadLetterRecord
		if err := json.Unmarshal(m.Data(), &r); err != nil {
			return fmt.Errorf("dead letter on %s: %w", m.Subject(), err)
		}
		all = append(all, r)
		return nil
	})
	return all, err
}

// each visits the messages that a stream holds now, in order.
func (l *Log) each(ctx context.Context, stream string, headersOnly bool, visit func(m jetstream.Msg, at *jetstream.MsgMetadata) error) error {
	s, err := l.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	last := s.CachedInfo().State.LastSeq
	if s.CachedInfo().State.Msgs == 0 {
		return nil
	}
	consumer, err := l.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{HeadersOnly: headersOnly})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	// A request that a server loses is soon made again.
	messages, err := consumer.Messages(jetstream.PullExpiry(2*time.Second), jetstream.PullHeartbeat(500*time.Millisecond))
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	defer func() {
		messages.Stop()
		// The server would keep it for minutes, and whoever looks often would have many.
		if info := consumer.CachedInfo(); info != nil {
			_ = l.js.DeleteConsumer(ctx, stream, info.Name)
		}
	}()
	for sequence := uint64(0); sequence < last; {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s after %d: %w", stream, sequence, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		sequence = meta.Sequence.Stream
		if err := visit(m, meta); err != nil {
			return errors.Join(fmt.Errorf("stream %s", stream), err)
		}
	}
	return nil
}
