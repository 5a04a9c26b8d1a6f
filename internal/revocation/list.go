package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/metric"
)

const (
	// MaxEntries bounds what an edge remembers, at about 40 MB; what is beyond is
	// not refused, and told of.
	MaxEntries = 200_000
	// compareInterval is how often the list is compared with the bucket: the net
	// under the watch, which may have ended without a word.
	compareInterval = 5 * time.Second
	askTimeout      = 3 * time.Second
	readTimeout     = 30 * time.Second
	retryInterval   = time.Second
	sweepInterval   = time.Minute
)

// List is what is revoked, as this node knows it. While the bucket cannot be read
// it keeps what it knows. Its methods may be called at the same time; Run once.
type List struct {
	js      jetstream.JetStream
	changed func()
	logger  *slog.Logger

	loaded chan struct{} // closed when the bucket has been read once

	compareInterval time.Duration // a field so that tests need not wait

	mu       sync.RWMutex
	entries  map[Key]Entry
	revision uint64 // of the newest entry that was read
	left     int    // entries for which there was no room
	problem  string // why the list may not be what the bucket holds; "" if it is
}

// NewList returns an empty list. changed is called, from a goroutine of Run, when
// something has been revoked, and should not block.
func NewList(js jetstream.JetStream, changed func(), logger *slog.Logger, reg prometheus.Registerer) *List {
	l := &List{
		js: js, changed: changed, logger: logger.With("component", "revocation"),
		loaded: make(chan struct{}), compareInterval: compareInterval, entries: map[Key]Entry{}, problem: "not read yet",
	}
	metric.GaugeFunc(reg, "gateway_edge_revocations", "Tokens, daemons and orchestrators that are revoked.", nil,
		func() float64 { n, _ := l.state(); return float64(n) })
	metric.GaugeFunc(reg, "gateway_edge_revocations_current",
		"1 while what is revoked is known as it stands in the bucket, 0 while the bucket cannot be read or is too large.", nil,
		func() float64 { _, problem := l.state(); return metric.Truth(problem == "") })
	return l
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

// follow reads the bucket, and then its changes until that fails.
func (l *List) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before, err := l.lastRevision(ctx)
	if err != nil {
		return err
	}
	bucket, err := l.js.KeyValue(ctx, Bucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", Bucket, err)
	}
	watcher, err := bucket.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", Bucket, err)
	}
	defer func() { _ = watcher.Stop() }()
	if err := l.read(ctx, watcher, before); err != nil {
		return err
	}
	return l.watch(ctx, watcher)
}

// read takes what the bucket holds. Its newest entries may have ended long ago, so
// that the revision before the watch began counts as read as well.
func (l *List) read(ctx context.Context, watcher jetstream.KeyWatcher, before uint64) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r := &reading{entries: map[Key]Entry{}, revision: before}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("bucket %s is not read to its end: %w", Bucket, ctx.Err())
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errWatchEnded
			case entry == nil:
				l.complete(r)
				return nil
			}
			r.take(entry)
		}
	}
}

var errWatchEnded = errors.New("the watch has ended")

// watch takes changes, and compares what it has seen with the bucket.
func (l *List) watch(ctx context.Context, watcher jetstream.KeyWatcher) error {
	compare, sweep := time.NewTicker(l.compareInterval), time.NewTicker(sweepInterval)
	defer compare.Stop()
	defer sweep.Stop()
	var expected uint64 // what the bucket had at the comparison before
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-watcher.Updates():
			if !ok {
				return errWatchEnded
			}
			l.take(entry)
		case <-compare.C:
			last, err := l.lastRevision(ctx)
			if err != nil {
				return err
			}
			if seen := l.seen(); seen < expected || last < seen {
				return fmt.Errorf("bucket %s is at revision %d, and the watch at %d", Bucket, last, seen)
			}
			expected = last
		case now := <-sweep.C:
			l.sweep(now)
		}
	}
}

// lastRevision asks for the newest revision of the bucket.
func (l *List) lastRevision(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := l.js.Stream(ctx, "KV_"+Bucket)
	if err != nil {
		return 0, fmt.Errorf("ask for the state of bucket %s: %w", Bucket, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

func (l *List) seen() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.revision
}

// reading is a list under way, from a watch that began.
type reading struct {
	entries  map[Key]Entry
	revision uint64
	left     int
}

func (r *reading) take(entry jetstream.KeyValueEntry) {
	r.revision = max(r.revision, entry.Revision())
	key := Key(entry.Key())
	if entry.Operation() != jetstream.KeyValuePut {
		delete(r.entries, key)
		return
	}
	if key.kind() == "" {
		return
	}
	if _, known := r.entries[key]; !known && len(r.entries) >= MaxEntries {
		r.left++
		return
	}
	r.entries[key] = Decode(entry.Value(), entry.Created())
}

// complete takes what the bucket held as a whole: what is not in it any more has
// ended, though nobody has said so.
func (l *List) complete(r *reading) {
	now := time.Now()
	maps.DeleteFunc(r.entries, func(_ Key, e Entry) bool { return !now.Before(e.Until) })
	l.mu.Lock()
	before := l.problem
	l.entries, l.revision, l.left, l.problem = r.entries, r.revision, r.left, ""
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
func (l *List) take(entry jetstream.KeyValueEntry) {
	l.mu.Lock()
	r := reading{entries: l.entries, revision: l.revision, left: l.left}
	r.take(entry)
	l.revision, l.left = r.revision, r.left
	e, revoked := l.entries[Key(entry.Key())]
	l.mu.Unlock()
	if entry.Operation() != jetstream.KeyValuePut {
		l.logger.Info("revocation ended by an operator", "key", entry.Key())
		return
	}
	if revoked {
		l.logger.Info("revoked", "key", entry.Key(), "until", e.Until, "by", e.By, "reason", e.Reason)
		l.changed()
	}
}

// sweep forgets what has ended.
func (l *List) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.entries, func(_ Key, e Entry) bool { return !now.Before(e.Until) })
}
