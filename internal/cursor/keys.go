package cursor

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// key is one orchestrator's record as this node knows it.
type key struct {
	// busy holds one element while somebody reads and writes the record, so
	// that this node does not conflict with itself.
	busy chan struct{}

	// Owned by the holder of busy.
	known    bool   // revision and stored are what the store has, as far as this node knows
	revision uint64 // 0: the store has none
	stored   []byte // encoded, because there are tens of thousands of them

	// Guarded by partition.mu. A key is kept while any of these is not empty.
	users   int       // who holds or waits for busy
	writers []*Writer // connections that have begun and not ended
	unsaved unsaved   // what was reported and is not stored; nil: nothing
}

// partition holds the keys of one partition. Its methods may be called at the
// same time.
type partition struct {
	bucket  string
	reads   gatherer
	outage  outage
	writing chan struct{} // a place for each write under way

	mu     sync.Mutex
	keys   map[event.Token]*key
	dirty  map[event.Token]struct{} // those with something to be written
	queued map[event.Token]struct{} // those that are due
	writes bool                     // somebody writes what is queued
	newest uint64                   // the highest revision of any key that this node knows of
	lost   time.Time                // when the bucket turned out to have been lost; zero: it was not
}

func newPartition(p event.Partition, writing int, fetch fetchFunc) *partition {
	return &partition{
		bucket: eventlog.CursorBucket(p), writing: make(chan struct{}, writing),
		reads: gatherer{fetch: fetch, pace: eventlog.Pace{First: gatherDelay}},
		keys:  make(map[event.Token]*key), dirty: make(map[event.Token]struct{}), queued: make(map[event.Token]struct{}),
	}
}

// queue notes that a record is due, and reports whether the caller is to see to
// it that what is queued is written.
func (p *partition) queue(token event.Token) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued[token] = struct{}{}
	first, p.writes = !p.writes, true
	return first
}

// takeQueued returns what is due; where that is nothing, the caller is done.
func (p *partition) takeQueued() []event.Token {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := drain(p.queued)
	p.writes = due != nil
	return due
}

func (p *partition) subject(token event.Token) string {
	return eventlog.BucketSubject(p.bucket, string(token))
}

// acquire makes the caller the only one to read and write the key, until release.
func (p *partition) acquire(ctx context.Context, token event.Token) (*key, error) {
	p.mu.Lock()
	k := p.keyLocked(token)
	k.users++
	p.mu.Unlock()
	select {
	case k.busy <- struct{}{}:
		return k, nil
	case <-ctx.Done():
		p.leave(token, k)
		return nil, ctx.Err()
	}
}

func (p *partition) release(token event.Token, k *key) {
	<-k.busy
	p.leave(token, k)
}

func (p *partition) leave(token event.Token, k *key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k.users--
	p.tidyLocked(token, k)
}

// keyLocked returns the token's key, a new one if there is none. p.mu is held.
func (p *partition) keyLocked(token event.Token) *key {
	k, ok := p.keys[token]
	if !ok {
		k = &key{busy: make(chan struct{}, 1)}
		p.keys[token] = k
	}
	return k
}

// tidyLocked removes a key that is of no use any more. p.mu is held.
func (p *partition) tidyLocked(token event.Token, k *key) {
	if k.users == 0 && len(k.writers) == 0 && len(k.unsaved) == 0 {
		delete(p.keys, token)
		delete(p.dirty, token)
	}
}

// collect hands what is to be written to the caller, who holds busy and ends
// with stored or putBack. It asks the connections without the lock.
func (p *partition) collect(k *key) unsaved {
	p.mu.Lock()
	own := k.unsaved
	k.unsaved = nil
	var dirty []*Writer
	for _, w := range k.writers {
		if w.dirty {
			w.dirty = false
			dirty = append(dirty, w)
		}
	}
	p.mu.Unlock()
	for _, w := range dirty {
		if progress, ok := w.reporter.Progress(); ok {
			own.add(writer{w.daemon, progress.Entry.Generation}, progress)
		}
	}
	return own
}

// putBack returns what could not be stored, under what was reported meanwhile.
func (p *partition) putBack(token event.Token, k *key, own unsaved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, later := range k.unsaved {
		own.add(w, later)
	}
	k.unsaved = own
	if len(own) > 0 {
		p.dirty[token] = struct{}{}
	}
}

// stored notes that what was collected is stored or no longer matters. It
// reports whether there is more to be written already.
func (p *partition) stored(token event.Token, k *key) (more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	more = len(k.unsaved) > 0 || slices.ContainsFunc(k.writers, func(w *Writer) bool { return w.dirty })
	if !more {
		delete(p.dirty, token)
	}
	return more
}

// newestRevision returns the highest revision in the bucket that is known here.
func (p *partition) newestRevision() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest
}

// saw notes a revision that was read.
func (p *partition) saw(revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest = max(p.newest, revision)
}

// wrote notes the revision of a write, and reports whether it shows that the bucket was
// lost, or is an older one again: it is no higher than the newest that was known before
// it. Of several writes one finds that out.
func (p *partition) wrote(revision, before uint64, now time.Time) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if lost = revision <= before && before <= p.newest; lost {
		p.newest, p.lost = revision, now
	}
	p.newest = max(p.newest, revision)
	return lost
}

// loss says whether the bucket was lost, as far as is known here.
func (p *partition) loss() Lost {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Lost{Since: p.lost}
}

// writersOf returns the connections of the key that run.
func (p *partition) writersOf(k *key) []*Writer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(k.writers)
}

// isKept reports whether this node has a key for the token.
func (p *partition) isKept(token event.Token) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.keys[token]
	return ok
}

// dirtyTokens returns those with something to be written.
func (p *partition) dirtyTokens() []event.Token {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.dirty))
}

func (p *partition) countDirty() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.dirty)
}
