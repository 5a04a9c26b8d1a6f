package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// UnresolvedStream holds events of which nobody knows yet whose they are.
const UnresolvedStream = "DAEMON_UNRESOLVED"

const (
	unresolvedPrefix = "daemon.unresolved"
	// maxUnresolved bounds what the bridges remember of it.
	maxUnresolved = 1_000_000
)

// UnresolvedSubject is where the events of an addressee wait. It is the id as
// the publisher gave it, which may be a user's.
func UnresolvedSubject(addressee event.Token) string {
	return unresolvedPrefix + "." + string(addressee)
}

// unresolved keeps for an addressee what the log would keep. Like the log it
// refuses what it has no room for. It is read through its leader only, because
// it matters that nothing is left.
func (c Config) unresolved() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              UnresolvedStream,
		Description:       "Daemon gateway: events whose orchestrator is not known yet",
		Subjects:          []string{unresolvedPrefix + ".*"},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxMsgs:           maxUnresolved,
		MaxMsgsPerSubject: c.EventsPerOrchestrator,
		MaxBytes:          int64(c.LogMaxBytes),
		MaxAge:            c.EventRetention,
		Duplicates:        c.DuplicateWindow,
		Replicas:          c.StreamReplicas,
		DenyDelete:        true,
	}
}

// Unresolved is the stream of events that wait for their addressee to be known.
// Its methods may be called at the same time.
type Unresolved struct {
	log    *Log
	stream jetstream.Stream
}

// Backlog is what waits.
type Backlog struct {
	Events uint64
	// Oldest is when the oldest event was stored; zero if there is none.
	Oldest time.Time
	// Addressees for whom events wait, with their number.
	Addressees map[event.Token]uint64
}

// OpenUnresolved makes sure that the stream exists, waiting like Open while
// NATS cannot be reached. Where NATS does not have room for LOG_MAX_BYTES it is
// smaller.
func (l *Log) OpenUnresolved(ctx context.Context, progress func(detail string)) (*Unresolved, error) {
	waiting := outage.New("stream of unresolved events not ready, trying again", l.logger)
	for delay := firstOpenDelay; ; delay = min(2*delay, longestDelay) {
		u, err := l.openUnresolved(ctx)
		if err == nil || errors.Is(err, ErrConfig) {
			return u, err
		}
		progress(err.Error())
		if ctx.Err() == nil {
			waiting.Failed(UnresolvedStream, err.Error(), delay)
		}
		if !lifecycle.Sleep(ctx, delay) {
			return nil, errors.Join(fmt.Errorf("open the stream of unresolved events: %w", ctx.Err()), err)
		}
	}
}

func (l *Log) openUnresolved(ctx context.Context) (u *Unresolved, err error) {
	err = l.jet.Bounded(ctx, setupTimeout, func(ctx context.Context) error {
		info, err := l.ensureUnresolved(ctx, l.jet.Stream)
		if errors.Is(err, jet.ErrMissing) {
			return fmt.Errorf("%w (KEEP_UNRESOLVED=true has it make this one)", err)
		}
		if err != nil {
			return err
		}
		want := l.cfg.unresolved()
		want.MaxBytes = info.Config.MaxBytes
		if err := l.adjust(ctx, info.Config, want); err != nil {
			return err
		}
		stream, err := l.jet.Stream(ctx, UnresolvedStream)
		u = &Unresolved{log: l, stream: stream}
		return err
	})
	return u, err
}

// ensureUnresolved creates the stream where it is missing, as large as NATS lets
// it be.
func (l *Log) ensureUnresolved(ctx context.Context, find jet.Finder) (*jetstream.StreamInfo, error) {
	want := l.cfg.unresolved()
	for {
		info, err := l.jet.EnsureStream(ctx, want, find)
		if err == nil || !jet.NoRoom(err) || want.MaxBytes/2 < minPartitionBytes {
			return info, err
		}
		want.MaxBytes /= 2
		l.logger.Warn("NATS cannot reserve LOG_MAX_BYTES for unresolved events: there will be room for fewer",
			"bytes", settings.ByteSize(want.MaxBytes))
	}
}

// Keep stores an event until its addressee is known, once within the duplicate
// window, and returns when it is stored. Where the error is ErrUnavailable, it
// may have been stored or not. The trace of ctx (tracing.With) is kept with it.
func (u *Unresolved) Keep(ctx context.Context, addressee event.Token, eventID string, body []byte) (duplicate bool, err error) {
	start := time.Now()
	msg := &nats.Msg{
		Subject: UnresolvedSubject(addressee),
		Header:  nats.Header{jetstream.MsgIDHeader: {event.MessageID(addressee, eventID)}},
		Data:    body,
	}
	u.log.traceOn(ctx, msg)
	ack, err := u.log.jet.Store(ctx, UnresolvedStream, msg)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		err = errors.Join(err, u.restore(ctx))
	}
	u.log.metrics.observe(opUnresolved, start, err)
	if err != nil {
		return false, fmt.Errorf("store an unresolved event: %w", err)
	}
	return ack.Duplicate, nil
}

// KeepAsync is Keep in the background: done is called exactly once, from a
// goroutine of its own. How many are under way is for the caller to bound.
func (u *Unresolved) KeepAsync(ctx context.Context, addressee event.Token, eventID string, body []byte, done func(duplicate bool, err error)) {
	go func() { done(u.Keep(ctx, addressee, eventID, body)) }()
}

// restore creates the stream if nobody answers because it is missing.
func (u *Unresolved) restore(ctx context.Context) error {
	return u.log.jet.Request(ctx, func(ctx context.Context) error {
		_, err := u.log.ensureUnresolved(ctx, u.log.jet.Find)
		return err
	})
}

// Next returns the oldest event of an addressee at or after a sequence, and
// whether there is one, as the stream's leader knows it.
func (u *Unresolved) Next(ctx context.Context, addressee event.Token, from uint64) (m Message, ok bool, err error) {
	start := time.Now()
	err = u.log.jet.Request(ctx, func(ctx context.Context) error {
		raw, err := jet.Ask(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
			return u.stream.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(UnresolvedSubject(addressee)))
		})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		m, ok = Message{Token: addressee, Sequence: raw.Sequence, Stored: raw.Time, Body: raw.Data}, true
		if c, traced := tracing.Parse(raw.Header.Get(tracing.HeaderTraceparent), raw.Header.Get(tracing.HeaderTracestate)); traced {
			m.Trace = &c
		}
		return nil
	})
	u.log.metrics.observe(opUnresolved, start, err)
	return m, ok, wrap("read an unresolved event", err)
}

// Remove takes the events of an addressee up to a sequence out of the stream.
func (u *Unresolved) Remove(ctx context.Context, addressee event.Token, upTo uint64) error {
	start := time.Now()
	err := u.log.jet.Request(ctx, func(ctx context.Context) error {
		_, err := jet.Ask(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, u.stream.Purge(ctx,
				jetstream.WithPurgeSubject(UnresolvedSubject(addressee)), jetstream.WithPurgeSequence(upTo+1))
		})
		return err
	})
	u.log.metrics.observe(opUnresolved, start, err)
	return wrap("remove unresolved events", err)
}

// Backlog asks the leader what waits. With 1,000,000 addressees that is work of
// a second or so for it.
func (u *Unresolved) Backlog(ctx context.Context) (Backlog, error) {
	start := time.Now()
	var info *jetstream.StreamInfo
	err := u.log.jet.Bounded(ctx, setupTimeout, func(ctx context.Context) (err error) {
		info, err = u.stream.Info(ctx, jetstream.WithSubjectFilter(UnresolvedSubject("*")))
		return err
	})
	u.log.metrics.observe(opUnresolved, start, err)
	if err != nil {
		return Backlog{}, fmt.Errorf("list unresolved events: %w", err)
	}
	b := Backlog{Events: info.State.Msgs, Addressees: make(map[event.Token]uint64, len(info.State.Subjects))}
	for subject, n := range info.State.Subjects {
		b.Addressees[event.Token(strings.TrimPrefix(subject, unresolvedPrefix+"."))] = n
	}
	if b.Events > 0 {
		b.Oldest = info.State.FirstTime
	}
	return b, nil
}
