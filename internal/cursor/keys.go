package cursor

import (
	"context"
	"sync"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
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

	// Guarded by partition.mu.
	users     int // who holds or waits for busy
	unsaved   unsaved
	forgotten bool // to be removed as soon as nothing is unsaved
}

// partition holds the keys of one partition. Its methods may be called at the
// same time.
type partition struct {
	bucket string
	reads  gatherer

	mu    sync.Mutex
	keys  map[event.Token]*key
	dirty map[event.Token]struct{} // those with entries that are not stored yet
}

func newPartition(p event.Partition, fetch fetchFunc) *partition {
	return &partition{
		bucket: eventlog.CursorBucket(p), reads: gatherer{fetch: fetch, delay: gatherDelay},
		keys: make(map[event.Token]*key), dirty: make(map[event.Token]struct{}),
	}
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
		// Until somebody saves or begins, nobody would forget it.
		k = &key{busy: make(chan struct{}, 1), forgotten: true}
		p.keys[token] = k
	}
	return k
}

// tidyLocked removes a key that is of no use any more. p.mu is held.
func (p *partition) tidyLocked(token event.Token, k *key) {
	if _, dirty := p.dirty[token]; k.forgotten && k.users == 0 && !dirty {
		delete(p.keys, token)
	}
}

// keep undoes forget: somebody uses the key again.
func (p *partition) keep(k *key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k.forgotten = false
}

func (p *partition) forget(token event.Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.keys[token]; ok {
		k.forgotten = true
		p.tidyLocked(token, k)
	}
}

func (p *partition) save(token event.Token, epoch eventlog.Epoch, daemon protocol.DaemonID, e Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.keyLocked(token)
	k.forgotten = false
	k.unsaved.add(epoch, daemon, e, defaultLimits)
	p.dirty[token] = struct{}{}
}

// take hands the key's unsaved entries to the caller, who holds busy and ends
// with stored or putBack.
func (p *partition) take(k *key) unsaved {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := k.unsaved
	k.unsaved = unsaved{}
	return own
}

// putBack returns what could not be stored, under what was saved meanwhile.
func (p *partition) putBack(k *key, own unsaved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	own.addAll(k.unsaved, defaultLimits)
	k.unsaved = own
}

// stored notes that what was taken is stored or no longer matters.
func (p *partition) stored(token event.Token, k *key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(k.unsaved.entries) == 0 {
		delete(p.dirty, token)
	}
}

// isKept reports whether this node has a key for the token.
func (p *partition) isKept(token event.Token) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.keys[token]
	return ok
}

// appendDirty adds the tokens that have entries to be stored.
func (p *partition) appendDirty(dst []event.Token) []event.Token {
	p.mu.Lock()
	defer p.mu.Unlock()
	for token := range p.dirty {
		dst = append(dst, token)
	}
	return dst
}

func (p *partition) countDirty() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.dirty)
}
