package heartbeat

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// sendInterval is how long heartbeats are gathered.
const sendInterval = time.Second

// Sender publishes an edge's heartbeats. While NATS is away it keeps the newest
// of each session, as long as that says something.
type Sender struct {
	conn     *nats.Conn
	interval time.Duration
	logger   *slog.Logger
	faults   rate.Sometimes

	mu      sync.Mutex
	waiting map[event.Partition]map[protocol.SessionID]Beat // guarded by mu
}

// NewSender returns a sender that begins to send with Run. interval is how often
// the edge's daemons are to report, which it says with each batch.
func NewSender(conn *nats.Conn, interval time.Duration, logger *slog.Logger) *Sender {
	return &Sender{
		conn: conn, interval: interval, logger: logger.With("component", "heartbeat"),
		faults:  rate.Sometimes{First: 1, Interval: time.Minute},
		waiting: make(map[event.Partition]map[protocol.SessionID]Beat),
	}
}

// Add takes a heartbeat; it never blocks. It replaces an older one of the same
// session, apart from what the new one does not say.
func (s *Sender) Add(p event.Partition, b Beat) {
	b.ReceivedAt = b.ReceivedAt.UTC().Truncate(time.Millisecond)
	b.ConnectedAt = b.ConnectedAt.UTC().Truncate(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	beats := s.waiting[p]
	if beats == nil {
		beats = make(map[protocol.SessionID]Beat)
		s.waiting[p] = beats
	}
	older := beats[b.Session]
	if b.Status == "" {
		b.Status = older.Status
	}
	if b.Metrics == nil {
		b.Metrics = older.Metrics
	}
	beats[b.Session] = b
}

// Run sends until ctx ends, and what is left then.
func (s *Sender) Run(ctx context.Context) error {
	ticker := time.NewTicker(sendInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.send(time.Now())
			return nil
		case now := <-ticker.C:
			s.send(now)
		}
	}
}

// send publishes what waits. NATS's client would keep what is published while
// it is away, and all of it rather than the newest.
func (s *Sender) send(now time.Time) {
	if !s.conn.IsConnected() {
		s.forget(now)
		return
	}
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = make(map[event.Partition]map[protocol.SessionID]Beat, len(waiting))
	s.mu.Unlock()
	for p, beats := range waiting {
		if err := s.publish(p, beats); err != nil {
			s.faults.Do(func() { s.logger.Warn("heartbeats were not sent", "error", err) })
		}
	}
}

// forget drops what says nothing any more.
func (s *Sender) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, beats := range s.waiting {
		for id, b := range beats {
			if now.Sub(b.ReceivedAt) > Lifetime {
				delete(beats, id)
			}
		}
	}
}

func (s *Sender) publish(p event.Partition, beats map[protocol.SessionID]Beat) error {
	batch := []byte{'['}
	flush := func() error {
		if len(batch) == 1 {
			return nil
		}
		m := nats.NewMsg(Subject(p))
		m.Data = append(batch, ']')
		m.Header.Set(intervalHeader, strconv.FormatInt(s.interval.Milliseconds(), 10))
		err := s.conn.PublishMsg(m)
		batch = []byte{'['} // the client may still hold the old one
		return err
	}
	for _, b := range beats {
		one, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("encode a heartbeat: %w", err)
		}
		if len(batch)+len(one) > maxBatchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(batch) > 1 {
			batch = append(batch, ',')
		}
		batch = append(batch, one...)
	}
	return flush()
}
