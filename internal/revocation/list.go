package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/metric"
)

const (
	// MaxEntries bounds what an edge remembers, at about 40 MB; what is beyond is
	// not refused, and told of.
	MaxEntries = 200_000
	// pollInterval is how soon what is revoked counts.
	pollInterval  = time.Second
	askTimeout    = 3 * time.Second
	readTimeout   = 30 * time.Second
	retryInterval = time.Second
	sweepInterval = time.Minute
	// readBatch and readBytes bound what is read at a time.
	readBatch = 1000
	readBytes = 1 << 20

	stream   = "KV_" + Bucket
	subjects = "$KV." + Bucket + "."
)

// List is what is revoked, as this node knows it. While the bucket cannot be read
// it keeps what it knows. Its methods may be called at the same time; Run once.
type List struct {
	client  *jet.Client
	changed func()
	audit   *audit.Log
	logger  *slog.Logger

	loaded chan struct{} // closed when the bucket has been read once

	// Fields so that tests need not wait, nor set the machine's clock.
	pollInterval, sweepInterval time.Duration
	clock                       func() time.Time

	mu       sync.RWMutex
	entries  map[Key]Entry
	created  time.Time // the bucket that they are from
	revision uint64    // of the newest entry that was read
	left     int       // entries for which there was no room
	problem  string    // why the list may not be what the bucket holds; "" if it is
	latest   time.Time // by which the clock has said that entries have ended
}

// NewList returns an empty list. changed is called, from a goroutine of Run, when
// something has been revoked, and should not block.
func NewList(js jetstream.JetStream, changed func(), records *audit.Log, logger *slog.Logger) *List {
	logger = logger.With("component", "revocation")
	return &List{
		client: jet.New(js, jet.Use, logger), changed: changed, audit: records, logger: logger,
		loaded: make(chan struct{}), pollInterval: pollInterval, sweepInterval: sweepInterval, clock: time.Now,
		entries: map[Key]Entry{}, problem: "not read yet",
	}
}

// Observe registers the metrics of an edge's list.
func (l *List) Observe(reg prometheus.Registerer) {
	metric.GaugeFunc(reg, "gateway_edge_revocations", "Tokens, daemons and orchestrators that are revoked.", nil,
		func() float64 { n, _ := l.state(); return float64(n) })
	metric.GaugeFunc(reg, "gateway_edge_revocations_current",
		"1 while what is revoked is known as it stands in the bucket, 0 while the bucket cannot be read or is too large.", nil,
		func() float64 { _, problem := l.state(); return metric.Truth(problem == "") })
}

// Revokes returns the entry that revokes one of the keys, if there is one.
func (l *List) Revokes(now time.Time, keys ...Key) (Key, Entry, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.entries) == 0 {
		return "", Entry{}, false
	}
	for _, key := range keys {
		if e, ok := l.entries[key]; ok && now.Before(e.Until) {
			return key, e, true
		}
	}
	return "", Entry{}, false
}

// Has reports whether there is an entry for a key, as far as is known.
func (l *List) Has(key Key) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	_, ok := l.entries[key]
	return ok
}

// Empty reports whether nothing is revoked, so that nobody need be asked about.
func (l *List) Empty() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.entries) == 0
}

// Loaded is closed when the bucket has been read once.
func (l *List) Loaded() <-chan struct{} { return l.loaded }

// Check tells /readyz.
func (l *List) Check() (ok bool, detail string) {
	n, problem := l.state()
	if problem != "" {
		return false, fmt.Sprintf("%s; %d known stay revoked", problem, n)
	}
	return true, fmt.Sprintf("%d revoked", n)
}

func (l *List) state() (entries int, problem string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	problem = l.problem
	if problem == "" && l.left > 0 {
		problem = fmt.Sprintf("no room for %d entries", l.left)
	}
	return len(l.entries), problem
}

// Run follows the bucket until ctx ends.
func (l *List) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		l.trouble(l.follow(ctx))
		lifecycle.Sleep(ctx, retryInterval)
	}
	return nil
}

// trouble notes why the bucket is not followed, and says it once.
func (l *List) trouble(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	l.mu.Lock()
	before := l.problem
	l.problem = err.Error()
	l.mu.Unlock()
	if before != err.Error() {
		l.logger.Warn("what is revoked cannot be read, what is known stays revoked", "error", err)
	}
}

// follow reads the bucket, and then its changes until that fails, or what was
// forgotten is wanted again.
func (l *List) follow(ctx context.Context) error {
	began, err := l.ask(ctx)
	if err != nil {
		return err
	}
	r := &reading{entries: map[Key]Entry{}, now: l.clock()}
	if err := l.read(ctx, 1, r.take); err != nil {
		return err
	}
	if err := l.begin(ctx, r, began); err != nil {
		return err
	}
	poll, sweep := time.NewTicker(l.pollInterval), time.NewTicker(l.sweepInterval)
	defer poll.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
			if err := l.poll(ctx, began.created); err != nil {
				return err
			}
		case <-sweep.C:
			if setBack := l.sweep(l.clock()); setBack {
				return nil
			}
		}
	}
}

// poll takes what has changed. What a replica that lags does not have yet is asked
// for again, since the bucket's newest revision has not been seen then.
func (l *List) poll(ctx context.Context, created time.Time) error {
	now, err := l.ask(ctx)
	if err != nil {
		return err
	}
	seen := l.seen()
	switch {
	case now.last < seen || !now.created.Equal(created):
		return fmt.Errorf("bucket %s was made or rolled back to revision %d, and had %d", Bucket, now.last, seen)
	case now.last == seen:
		return nil
	}
	return l.read(ctx, seen+1, l.take)
}

// read hands over what stands in the bucket from a revision on. It asks, instead of
// having the server tell: that would take a consumer, and whoever may make
// consumers may have the server push stored messages to any subject.
func (l *List) read(ctx context.Context, from uint64, take func(change)) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		page, err := l.client.Read(ctx, stream, jet.ReadRequest{Subject: subjects + ">", From: from, Batch: readBatch, MaxBytes: readBytes})
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", Bucket, err)
		}
		for _, m := range page.Messages {
			take(change{
				key: Key(strings.TrimPrefix(m.Subject, subjects)), revision: m.Sequence, written: m.Stored, value: m.Data, deleted: m.Deleted(),
			})
			from = m.Sequence + 1
		}
		if page.Remaining == 0 || len(page.Messages) == 0 {
			return nil
		}
	}
}

// change is what stands at a revision of the bucket.
type change struct {
	key      Key
	revision uint64
	written  time.Time
	value    []byte
	deleted  bool
}

// standing is what the bucket's leader says of it.
type standing struct {
	created time.Time
	last    uint64 // the newest revision
}

func (l *List) ask(ctx context.Context) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found, err := l.client.Stream(ctx, stream)
	if err != nil {
		return standing{}, fmt.Errorf("ask for the state of bucket %s: %w", Bucket, err)
	}
	return standing{created: found.CachedInfo().Created, last: found.CachedInfo().State.LastSeq}, nil
}

func (l *List) seen() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.revision
}

// reading is a list under way.
type reading struct {
	entries  map[Key]Entry
	now      time.Time
	ended    []Key // those that are said to have
	revision uint64
	left     int
}

func (r *reading) take(c change) {
	r.revision = max(r.revision, c.revision)
	if !c.key.Valid() {
		return
	}
	e := Decode(c.value, c.written)
	// What has ended stands in the bucket for weeks, and takes no room here.
	if c.deleted || !r.now.Before(e.Until) {
		delete(r.entries, c.key)
		r.ended = append(r.ended, c.key)
		return
	}
	if _, known := r.entries[c.key]; !known && len(r.entries) >= MaxEntries {
		r.left++
		return
	}
	r.entries[c.key] = e
}

// begin is complete, but that the first reading has to be whole: whoever is let in
// then is asked for in it.
func (l *List) begin(ctx context.Context, r *reading, bucket standing) error {
	select {
	case <-l.loaded:
	default:
		if err := l.whole(ctx, r, bucket); err != nil {
			return err
		}
	}
	l.complete(r, bucket)
	return nil
}

// whole returns an error if the replica that was read has not heard of all that
// stands in the bucket. The newest revision need not stand there any more.
func (l *List) whole(ctx context.Context, r *reading, bucket standing) error {
	if r.revision >= bucket.last {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	next, err := l.client.Next(ctx, stream, subjects+">", r.revision+1)
	if err != nil {
		return fmt.Errorf("ask for what follows revision %d of bucket %s: %w", r.revision, Bucket, err)
	}
	if next.Sequence > 0 {
		return fmt.Errorf("the replica of bucket %s that was read lags behind: it has revision %d of %d", Bucket, r.revision, next.Sequence)
	}
	return nil
}

// complete takes what was read of the bucket as it stood: what is not in it any more
// has ended, though nobody has said so. Where the replica that was read lags behind
// that, what it may lack stays.
func (l *List) complete(r *reading, bucket standing) {
	now := l.clock()
	l.mu.Lock()
	l.saidLocked(r.now)
	l.saidLocked(now)
	if r.revision < bucket.last && bucket.created.Equal(l.created) {
		known := maps.Clone(l.entries)
		for _, key := range r.ended {
			delete(known, key)
		}
		maps.Copy(known, r.entries)
		r.entries = known
	}
	maps.DeleteFunc(r.entries, func(_ Key, e Entry) bool { return !now.Before(e.Until) })
	before := l.problem
	l.entries, l.created, l.revision, l.left, l.problem = r.entries, bucket.created, r.revision, r.left, ""
	l.mu.Unlock()
	select {
	case <-l.loaded:
		if before != "" {
			l.logger.Info("what is revoked is read again", "entries", len(r.entries))
		}
	default:
		close(l.loaded)
	}
	l.changed()
}

// take takes a change.
func (l *List) take(c change) {
	l.mu.Lock()
	r := reading{entries: l.entries, now: l.clock(), revision: l.revision, left: l.left}
	r.take(c)
	l.saidLocked(r.now)
	l.revision, l.left = r.revision, r.left
	e, revoked := l.entries[c.key]
	l.mu.Unlock()
	if len(r.ended) > 0 {
		l.audit.Write(audit.OperatorActed, "revocation_ended", "key", string(c.key))
	}
	if revoked {
		l.audit.Write(audit.OperatorActed, "revoked", "key", string(c.key), "until", e.Until, "by", e.By, "because", e.Reason)
		l.changed()
	}
}

// saidLocked notes what the clock has said when entries were judged by it. l.mu is
// held.
func (l *List) saidLocked(now time.Time) {
	now = now.Round(0) // as the clock says, whatever time has passed
	if now.After(l.latest) {
		l.latest = now
	}
}

// sweep forgets what has ended. It reports whether the clock has been set back since
// entries were judged by it: then what was forgotten may not have ended.
func (l *List) sweep(now time.Time) (setBack bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.entries, func(_ Key, e Entry) bool { return !now.Before(e.Until) })
	now = now.Round(0)
	setBack, l.latest = now.Before(l.latest), now
	return setBack
}
