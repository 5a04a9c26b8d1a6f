package ring

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/neolith/daemon-gateway/internal/share"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// edgeID stands for a member name in messages: 8 bytes instead of 50.
type edgeID uint64

func idOf(name string) edgeID { return edgeID(mix(hashText(hashStart, name))) }

// digest says what somebody has of an edge's claims. Version is the number of
// the last change, Hash the sum of the claims' hashes, whatever their order.
type digest struct {
	Edge    edgeID
	Version uint64
	Count   uint64
	Hash    uint64
}

// change is one numbered step of an edge: a claim, or the release of a session.
type change struct {
	Released bool
	Claim    Claim // of a release only Session
}

// batch is the changes of an edge after version From.
type batch struct {
	From    uint64
	Changes []change
}

func (b batch) end() uint64 { return b.From + uint64(len(b.Changes)) }

// held is a claim in the table. All but next and untold is never changed, so
// snapshots share it.
type held struct {
	Claim
	edge   *edge
	next   *held // guarded by the index shard
	untold int   // place in pending.added, from 1; guarded by table.mu
}

func (h *held) holding() Holding { return Holding{Edge: h.edge.name, Claim: h.Claim} }

// edge is one incarnation of an edge. Its state is a function of its version:
// version 0 is "no claims", which is where every copy starts.
type edge struct {
	name    string
	id      edgeID
	version uint64                       // guarded by table.mu
	hash    uint64                       // guarded by table.mu
	claims  map[protocol.SessionID]*held // guarded by table.mu
	digest  atomic.Pointer[digest]       // of the last complete step
	daemons atomic.Int64                 // claims that are no canaries
}

func newEdge(name string) *edge {
	e := &edge{name: name, id: idOf(name), claims: make(map[protocol.SessionID]*held)}
	e.publishLocked()
	return e
}

// publishLocked makes the state the one that digests tell of. table.mu is held.
func (e *edge) publishLocked() {
	e.digest.Store(&digest{Edge: e.id, Version: e.version, Count: uint64(len(e.claims)), Hash: e.hash})
}

// outcome is what became of a batch or snapshot.
type outcome int

const (
	outcomeApplied outcome = iota
	outcomeStale           // known already
	outcomeGap             // changes before it are missing
	outcomeUnknown         // of an edge that is not (or no longer) a member
	outcomeFull            // it finds no room: nothing is known of the edge any more
)

// table is the mergeable state: the claims of every edge, at some version of
// each. For one edge, copies that have the same version are equal, whichever
// way they got there: applying a batch or a snapshot that is known changes
// nothing, and applying in any order and any number of times ends in the
// highest version that is reachable without a gap.
//
// Any number of goroutines may use it. Readers of the index wait for no writer
// longer than one claim takes.
type table struct {
	index *index
	live  atomic.Pointer[[]*edge]
	total atomic.Int64 // of daemons
	room  *share.Pool[edgeID]

	mu       sync.Mutex
	edges    map[edgeID]*edge // guarded by mu
	pending  pending          // guarded by mu
	own      *edge            // set once; nil on a router
	outgoing batch            // own changes not yet sent; guarded by mu
	flush    chan struct{}
}

// maxOutgoing bounds the own changes that wait for sending. What is thrown away
// beyond it is missed by all, who find out by the digest.
const maxOutgoing = 1 << 16

// newTable returns a table; own is this node's name if it is an edge, else "".
func newTable(own string) *table {
	t := &table{
		index: newIndex(), edges: make(map[edgeID]*edge), flush: make(chan struct{}, 1),
		pending: pending{wake: make(chan struct{}, 1)}, room: Config{}.room(),
	}
	t.live.Store(&[]*edge{})
	if own != "" {
		t.addEdge(own)
		t.own = t.edges[idOf(own)]
	}
	return t
}

// addEdge takes an edge in, at version 0. It reports whether it is new.
func (t *table) addEdge(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := idOf(name)
	if _, known := t.edges[id]; known {
		return false
	}
	t.edges[id] = newEdge(name)
	t.relistLocked()
	return true
}

// removeEdge forgets an edge with all its claims.
func (t *table) removeEdge(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.edges[idOf(name)]
	if e == nil || e == t.own {
		return
	}
	delete(t.edges, e.id)
	t.relistLocked()
	for _, h := range e.claims {
		t.dropLocked(h)
	}
}

// relistLocked renews the list that digests are read from. t.mu is held.
func (t *table) relistLocked() {
	list := make([]*edge, 0, len(t.edges))
	for _, e := range t.edges {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *edge) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	t.live.Store(&list)
}

// claim and release make and number changes of this edge's own.

func (t *table) claim(c Claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own != nil && t.putLocked(t.own, c) {
		t.ownChangedLocked(change{Claim: t.own.claims[c.Session].Claim})
	}
}

func (t *table) release(session protocol.SessionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own != nil && t.takeOutLocked(t.own, session) {
		t.ownChangedLocked(change{Released: true, Claim: Claim{Session: session}})
	}
}

func (t *table) ownChangedLocked(c change) {
	t.own.version++
	t.own.publishLocked()
	if len(t.outgoing.Changes) >= maxOutgoing {
		t.outgoing = batch{From: t.own.version - 1}
	}
	t.outgoing.Changes = append(t.outgoing.Changes, c)
	signal(t.flush)
}

// takeOutgoing hands over the own changes since the last call.
func (t *table) takeOutgoing() batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.outgoing
	if t.own != nil {
		t.outgoing = batch{From: t.own.version}
	}
	return b
}

// apply applies those changes of the batch that are new.
func (t *table) apply(id edgeID, b batch) outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.edges[id]
	switch {
	case e == nil || e == t.own:
		return outcomeUnknown
	case b.end() <= e.version:
		return outcomeStale
	case b.From > e.version:
		return outcomeGap
	}
	for _, c := range b.Changes[e.version-b.From:] {
		if c.Released {
			t.takeOutLocked(e, c.Claim.Session)
		} else if !t.takeInLocked(e, c.Claim) {
			t.emptyLocked(e)
			return outcomeFull
		}
	}
	e.version = b.end()
	e.publishLocked()
	return outcomeApplied
}

// replace makes the edge's claims those of a snapshot, unless it is older than
// what is known. A snapshot of the same version is applied, to repair.
func (t *table) replace(id edgeID, version uint64, claims []Claim) outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.edges[id]
	switch {
	case e == nil || e == t.own:
		return outcomeUnknown
	case version < e.version:
		return outcomeStale
	}
	keep := make(map[protocol.SessionID]struct{}, len(claims))
	for _, c := range claims {
		keep[c.Session] = struct{}{}
		if !t.takeInLocked(e, c) {
			t.emptyLocked(e)
			return outcomeFull
		}
	}
	for session := range e.claims {
		if _, kept := keep[session]; !kept {
			t.takeOutLocked(e, session)
		}
	}
	e.version = version
	e.publishLocked()
	return outcomeApplied
}

// putLocked reports whether it changed anything. t.mu is held.
func (t *table) putLocked(e *edge, c Claim) bool {
	old := e.claims[c.Session]
	if old != nil && old.Claim == c {
		return false
	}
	h := &held{Claim: compact(c), edge: e}
	// The new one comes before the old one goes, so that no reader sees neither.
	t.index.add(h)
	t.pending.add(h)
	t.count(h, 1)
	e.hash += c.sum()
	if old != nil {
		t.takeOutLocked(e, c.Session)
	}
	e.claims[h.Session] = h
	return true
}

func (t *table) takeOutLocked(e *edge, session protocol.SessionID) bool {
	h := e.claims[session]
	if h == nil {
		return false
	}
	delete(e.claims, session)
	e.hash -= h.sum()
	t.dropLocked(h)
	return true
}

// dropLocked takes a claim out of all but its edge. t.mu is held.
func (t *table) dropLocked(h *held) {
	t.index.remove(h)
	t.pending.remove(h)
	t.count(h, -1)
	if h.edge != t.own {
		t.room.Give(h.edge.id, h.cost())
	}
}

// count keeps the numbers of daemons' claims: canaries are no connections.
func (t *table) count(h *held, n int64) {
	if !h.Orchestrator.Reserved() {
		t.total.Add(n)
		h.edge.daemons.Add(n)
	}
}

// connections returns how many daemons' claims are known of an edge, without
// waiting.
func (t *table) connections(id edgeID) int {
	for _, e := range *t.live.Load() {
		if e.id == id {
			return int(e.daemons.Load())
		}
	}
	return 0
}

// snapshot returns this edge's own claims and the version they stand at.
func (t *table) snapshot() (digest, []*held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own == nil {
		return digest{}, nil
	}
	claims := make([]*held, 0, len(t.own.claims))
	for _, h := range t.own.claims {
		claims = append(claims, h)
	}
	return *t.own.digest.Load(), claims
}

// digestOf returns what is known of an edge, without waiting.
func (t *table) digestOf(id edgeID) (digest, bool) {
	for _, e := range *t.live.Load() {
		if e.id == id {
			return *e.digest.Load(), true
		}
	}
	return digest{}, false
}

// digests appends what is known of every edge, without waiting.
func (t *table) digests(dst []digest) []digest {
	for _, e := range *t.live.Load() {
		dst = append(dst, *e.digest.Load())
	}
	return dst
}

// changes hands over what the watchers have not been told.
func (t *table) changes() (added, removed []*held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending.take()
}

// unwatched stops gathering changes.
func (t *table) unwatched() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending.take()
	t.pending.off = true
}

// sum is the claim's share in the digest's hash.
func (c Claim) sum() uint64 {
	h := hashText(hashStart, string(c.Orchestrator))
	h = hashText(h^0xff, string(c.Session))
	h = hashText(h^0xff, string(c.Daemon))
	return mix(h ^ mix(c.Generation))
}

// compact copies the claim's texts into one allocation of their own: there are
// as many claims as connections in the cluster, on every member.
func compact(c Claim) Claim {
	text := string(c.Orchestrator) + string(c.Session) + string(c.Daemon)
	a, b := len(c.Orchestrator), len(c.Orchestrator)+len(c.Session)
	return Claim{
		Orchestrator: event.Token(text[:a]), Session: protocol.SessionID(text[a:b]),
		Daemon: protocol.DaemonID(text[b:]), Generation: c.Generation,
	}
}
