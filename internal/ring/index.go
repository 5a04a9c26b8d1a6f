package ring

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// indexShards bounds how much readers and the writer get into each other's way.
const indexShards = 64

// index finds the claims of an orchestrator: chains of claims, in shards each
// with a lock of its own. Any number of readers; writers hold table.mu.
type index struct {
	seed   maphash.Seed
	shards [indexShards]shard
}

type shard struct {
	mu    sync.RWMutex
	heads map[event.Token]*held // guarded by mu, as is held.next
}

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed()}
	for i := range x.shards {
		x.shards[i].heads = make(map[event.Token]*held)
	}
	return x
}

func (x *index) shard(token event.Token) *shard {
	return &x.shards[maphash.String(x.seed, string(token))%indexShards]
}

func (x *index) add(h *held) {
	s := x.shard(h.Orchestrator)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.next = s.heads[h.Orchestrator]
	s.heads[h.Orchestrator] = h
}

func (x *index) remove(h *held) {
	s := x.shard(h.Orchestrator)
	s.mu.Lock()
	defer s.mu.Unlock()
	head := s.heads[h.Orchestrator]
	if head == h {
		if h.next == nil {
			delete(s.heads, h.Orchestrator)
		} else {
			// Assigning replaces the key as well, which shares memory with the
			// claim that goes.
			s.heads[h.next.Orchestrator] = h.next
		}
		return
	}
	for at := head; at != nil; at = at.next {
		if at.next == h {
			at.next = h.next
			return
		}
	}
}

// appendEdges appends the names of the edges that hold the orchestrator, each
// once. This is the router's question for every event: no allocation.
func (x *index) appendEdges(dst []string, token event.Token) []string {
	start := len(dst)
	s := x.shard(token)
	s.mu.RLock()
	for h := s.heads[token]; h != nil; h = h.next {
		if !slices.Contains(dst[start:], h.edge.name) {
			dst = append(dst, h.edge.name)
		}
	}
	s.mu.RUnlock()
	return dst
}

func (x *index) holdings(token event.Token) []Holding {
	s := x.shard(token)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []Holding
	for h := s.heads[token]; h != nil; h = h.next {
		list = append(list, h.holding())
	}
	return list
}

func (x *index) each(yield func(event.Token)) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		for token := range s.heads {
			yield(token)
		}
		s.mu.RUnlock()
	}
}
