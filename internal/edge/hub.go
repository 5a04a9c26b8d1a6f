package edge

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// hub holds the admitted connections of this edge by orchestrator, one shard
// for each partition. Its methods may be called at any time, with tokens of any
// orchestrator.
type hub struct {
	rates  conversation.Rates
	shards []shard
	count  atomic.Int64
}

type shard struct {
	mu            sync.RWMutex
	orchestrators map[event.Token]*orchestrator
}

// orchestrator is what this edge knows of one orchestrator. It outlives its
// last connection for a while, so that connecting again does not reset limits.
type orchestrator struct {
	// connections is replaced, never modified, so that readers need no copy.
	connections []*connection
	limits      *conversation.Limits
	takeovers   takeovers
}

func newHub(partitions int, rates conversation.Rates) *hub {
	h := &hub{rates: rates, shards: make([]shard, partitions)}
	for i := range h.shards {
		h.shards[i].orchestrators = make(map[event.Token]*orchestrator)
	}
	return h
}

// partition is where the orchestrator's events stand in the log.
func (h *hub) partition(token event.Token) event.Partition {
	return event.PartitionOf(token, len(h.shards))
}

func (h *hub) shard(token event.Token) *shard { return &h.shards[h.partition(token)] }

// connections returns the orchestrator's connections; not to be modified.
func (h *hub) connections(token event.Token) []*connection {
	s := h.shard(token)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if o := s.orchestrators[token]; o != nil {
		return o.connections
	}
	return nil
}

// find returns the connection of a session, or nil.
func (h *hub) find(token event.Token, id protocol.SessionID) *connection {
	for _, c := range h.connections(token) {
		if c.id == id {
			return c
		}
	}
	return nil
}

// inPartition returns all connections of a partition.
func (h *hub) inPartition(p event.Partition) []*connection {
	s := &h.shards[p]
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*connection
	for _, o := range s.orchestrators {
		out = append(out, o.connections...)
	}
	return out
}

// add enters a connection and returns the limits that it shares.
func (h *hub) add(c *connection) *conversation.Limits {
	s := h.shard(c.token)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.getLocked(c.token, h.rates)
	o.connections = append(slices.Clip(o.connections), c)
	h.count.Add(1)
	return o.limits
}

// remove takes a connection out.
func (h *hub) remove(c *connection) {
	s := h.shard(c.token)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orchestrators[c.token]
	if o == nil {
		return
	}
	if i := slices.Index(o.connections, c); i >= 0 {
		o.connections = slices.Concat(o.connections[:i], o.connections[i+1:])
		h.count.Add(-1)
	}
}

// limits returns what the orchestrator's requests by HTTP count against.
func (h *hub) limits(token event.Token) *conversation.Limits {
	s := h.shard(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.getLocked(token, h.rates).limits
}

// takeover counts that a daemon's connection replaces another, and reports
// whether that happens too often.
func (h *hub) takeover(token event.Token, daemon protocol.DaemonID, now time.Time) (tooOften bool) {
	s := h.shard(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.getLocked(token, h.rates).takeovers.count(daemon, now)
}

// sweep forgets orchestrators of a partition of which nothing matters any more.
func (h *hub) sweep(p event.Partition, now time.Time) {
	s := &h.shards[p]
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, o := range s.orchestrators {
		if len(o.connections) == 0 && o.limits.Idle(now) && o.takeovers.idle(now) {
			delete(s.orchestrators, token)
		}
	}
}

// getLocked returns the orchestrator's entry, a new one if there is none. mu is held.
func (s *shard) getLocked(token event.Token, rates conversation.Rates) *orchestrator {
	o := s.orchestrators[token]
	if o == nil {
		o = &orchestrator{limits: conversation.NewLimits(rates)}
		s.orchestrators[token] = o
	}
	return o
}

// maxTakeovers is how many takeovers of one daemon id a minute are taken for
// network trouble; more mean that two machines fight for one id.
const maxTakeovers = 3

// takeovers counts, by daemon, within minutes that begin with the first one.
type takeovers struct {
	start    time.Time
	byDaemon map[protocol.DaemonID]int
}

func (t *takeovers) count(daemon protocol.DaemonID, now time.Time) (tooOften bool) {
	if t.idle(now) {
		t.start, t.byDaemon = now, make(map[protocol.DaemonID]int)
	}
	t.byDaemon[daemon]++
	return t.byDaemon[daemon] > maxTakeovers
}

func (t *takeovers) idle(now time.Time) bool { return now.Sub(t.start) >= time.Minute }
