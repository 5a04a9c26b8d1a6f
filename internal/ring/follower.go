package ring

import (
	"cmp"
	"slices"
	"time"
)

const (
	// behindGrace is how long a known lag may last before a snapshot is asked
	// for: streams overtake one another, so the missing batch is usually near.
	behindGrace = 300 * time.Millisecond
	// answerTimeout is how long a request may stay without any progress.
	answerTimeout = 2 * time.Second
	// maxRequests bounds the snapshots that come in at the same time.
	maxRequests = 4
	// maxHeld bounds the batches of one edge that are kept for their turn.
	maxHeld = 64
)

// follower keeps the table's copies of other edges' claims up to date. It is
// pure: messages and the time go in, requests come out. One goroutine uses it.
//
//	            digest or batch says there is more          300 ms, or nothing known
//	up to date ────────────────────────────────▶ behind ──────────────────────────▶ asked
//	    ▲                                           │ the missing batch comes          │ 2 s without
//	    └───────────────────────────────────────────┴───────────── snapshot complete ◀─┘ progress: again
type follower struct {
	table   *table
	metrics *metrics
	edges   map[edgeID]*followed
	noRoom  func(edgeID) // is called where the claims of an edge find no room
}

// followed is what is known about the state of one edge.
type followed struct {
	id edgeID
	// heard says that the edge's version has been learned at all.
	heard bool
	// target is the highest version heard of.
	target uint64
	// differs says that somebody has other claims at the same version, which
	// only a defect can bring about; the edge's snapshot mends it.
	differs bool
	// since is when the lag was noticed; zero when up to date.
	since time.Time
	// early are batches whose predecessors are missing, by From.
	early []batch
	// asked is when the request now open was sent or last made progress; zero
	// when none is open.
	asked    time.Time
	assembly *assembly
	// kept is the room that early and assembly take.
	kept int64
	// full is until when nothing is taken in of the edge, since its claims have found no
	// room; else zero.
	full time.Time
}

// assembly is a snapshot of which some chunks have come.
type assembly struct {
	digest  digest
	chunks  [][]Claim
	missing int
	cost    int64
}

func newFollower(t *table, m *metrics) *follower {
	return &follower{table: t, metrics: m, edges: make(map[edgeID]*followed), noRoom: func(edgeID) {}}
}

// join takes in an edge that has become a member.
func (f *follower) join(now time.Time, name string) {
	if f.table.addEdge(name) {
		f.edges[idOf(name)] = &followed{id: idOf(name), since: now}
	}
}

// leave forgets an edge with all its claims.
func (f *follower) leave(name string) {
	if e := f.edges[idOf(name)]; e != nil {
		f.forget(e)
	}
	f.table.removeEdge(name)
	delete(f.edges, idOf(name))
}

// batch takes in changes that an edge sent of itself.
func (f *follower) batch(now time.Time, from edgeID, b batch) {
	e := f.edges[from]
	if e == nil {
		f.metrics.dropped(dropUnknownEdge)
		return
	}
	if !e.full.IsZero() {
		f.metrics.dropped(dropClaims)
		return
	}
	e.target = max(e.target, b.end())
	switch f.table.apply(e.id, b) {
	case outcomeGap:
		f.hold(e, b)
	case outcomeFull:
		f.refuse(now, e)
		return
	default:
		// Everything up to the batch is here, so the edge's version is known.
		e.heard = true
		if f.applyEarly(e) == outcomeFull {
			f.refuse(now, e)
			return
		}
	}
	f.judge(now, e)
}

func (f *follower) hold(e *followed, b batch) {
	if len(e.early) >= maxHeld || !f.keep(e, b.cost()) {
		f.metrics.dropped(dropEarly)
		return
	}
	at, _ := slices.BinarySearchFunc(e.early, b, func(x, y batch) int { return cmp.Compare(x.From, y.From) })
	e.early = slices.Insert(e.early, at, b)
}

// applyEarly applies the held batches whose turn has come. It returns what became of the
// last one.
func (f *follower) applyEarly(e *followed) (last outcome) {
	for len(e.early) > 0 && last != outcomeFull {
		next := e.early[0]
		if mine, _ := f.table.digestOf(e.id); next.From > mine.Version {
			return last
		}
		e.early[0] = batch{}
		e.early = e.early[1:]
		f.letGo(e, next.cost())
		last = f.table.apply(e.id, next)
	}
	return last
}

// keep takes room for what is kept of an edge for its turn; letGo gives it back.
func (f *follower) keep(e *followed, n int64) bool {
	if !f.table.room.Take(e.id, n) {
		return false
	}
	e.kept += n
	return true
}

func (f *follower) letGo(e *followed, n int64) {
	e.kept -= n
	f.table.room.Give(e.id, n)
}

// forget lets go of all that is kept of an edge for its turn.
func (f *follower) forget(e *followed) {
	if e.kept > 0 {
		f.letGo(e, e.kept)
	}
	e.early, e.assembly = nil, nil
}

// dropAssembly lets go of a snapshot that has not come, or that is no longer needed.
func (f *follower) dropAssembly(e *followed) {
	if e.assembly != nil {
		f.letGo(e, e.assembly.cost)
		e.assembly = nil
	}
}

// refuse forgets all that an edge claims, since it finds no room, and hears nothing of it
// for a while.
func (f *follower) refuse(now time.Time, e *followed) {
	f.forget(e)
	f.table.empty(e.id)
	*e = followed{id: e.id, full: now.Add(fullPause)}
	f.metrics.dropped(dropClaims)
	f.noRoom(e.id)
}

// digest takes in what somebody has of an edge.
func (f *follower) digest(now time.Time, d digest) {
	e := f.edges[d.Edge]
	if e == nil || !e.full.IsZero() {
		return // this node itself, or an edge that is not (or no longer) a member
	}
	mine, _ := f.table.digestOf(d.Edge)
	e.heard = true
	e.target = max(e.target, d.Version)
	if d.Version == mine.Version {
		if d != mine && !e.differs {
			f.metrics.snapshot(snapshotDiffers)
		}
		e.differs = d != mine
	}
	f.judge(now, e)
}

// chunk takes in a part of a snapshot that was asked for.
func (f *follower) chunk(now time.Time, c chunk) {
	e := f.edges[c.Digest.Edge]
	if e == nil || e.asked.IsZero() {
		return
	}
	if e.assembly == nil || e.assembly.digest.Version < c.Digest.Version {
		f.dropAssembly(e)
		e.assembly = &assembly{digest: c.Digest, chunks: make([][]Claim, c.Total), missing: c.Total}
	}
	if !e.assembly.lacks(c) {
		return
	}
	if !f.keep(e, c.cost()) {
		// What the snapshot is to replace makes room for it.
		if f.table.empty(e.id); !f.keep(e, c.cost()) {
			f.refuse(now, e)
			return
		}
	}
	e.assembly.add(c)
	e.asked = now
	if e.assembly.missing == 0 {
		f.assembled(now, e)
	}
}

// assembled takes in a snapshot of which all chunks have come.
func (f *follower) assembled(now time.Time, e *followed) {
	version, claims := e.assembly.digest.Version, slices.Concat(e.assembly.chunks...)
	f.dropAssembly(e)
	if f.table.replace(e.id, version, claims) == outcomeFull {
		f.refuse(now, e)
		return
	}
	f.metrics.snapshot(snapshotReceived)
	e.heard, e.differs = true, false
	e.target = max(e.target, version)
	e.asked = time.Time{}
	if f.applyEarly(e) == outcomeFull {
		f.refuse(now, e)
		return
	}
	f.judge(now, e)
}

// lacks reports whether the chunk belongs to the snapshot and is new.
func (a *assembly) lacks(c chunk) bool {
	return c.Digest == a.digest && c.Total == len(a.chunks) && a.chunks[c.Index] == nil
}

func (a *assembly) add(c chunk) {
	if c.Claims == nil {
		c.Claims = []Claim{}
	}
	a.chunks[c.Index] = c.Claims
	a.missing--
	a.cost += c.cost()
}

// judge notes whether the edge's copy is behind, and since when.
func (f *follower) judge(now time.Time, e *followed) {
	mine, _ := f.table.digestOf(e.id)
	switch {
	case !e.heard || e.differs || mine.Version < e.target:
		if e.since.IsZero() {
			e.since = now
		}
	default:
		// What is still on its way of a snapshot is no longer needed.
		e.since, e.asked = time.Time{}, time.Time{}
		f.forget(e)
	}
}

// due returns the requests to send now, longest lag first: what this node has
// of each edge that it is behind of.
func (f *follower) due(now time.Time) []digest {
	var waiting []*followed
	open := 0
	for _, e := range f.edges {
		if !e.asked.IsZero() && now.Sub(e.asked) >= answerTimeout {
			f.metrics.snapshot(snapshotAbandoned)
			e.asked = time.Time{}
			f.dropAssembly(e)
		}
		if !e.full.IsZero() && !now.Before(e.full) {
			e.full, e.since = time.Time{}, now
		}
		switch {
		case !e.asked.IsZero():
			open++
		case !e.since.IsZero() && (f.knowsNothing(e) || now.Sub(e.since) >= behindGrace):
			waiting = append(waiting, e)
		}
	}
	slices.SortFunc(waiting, func(a, b *followed) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.id, b.id))
	})
	var requests []digest
	for _, e := range waiting[:min(len(waiting), maxRequests-open)] {
		e.asked = now
		have, _ := f.table.digestOf(e.id)
		requests = append(requests, have)
		f.metrics.snapshot(snapshotRequested)
	}
	return requests
}

// knowsNothing reports whether there is nothing of an edge that a batch could
// be the next of: whoever has just started needs its snapshot.
func (f *follower) knowsNothing(e *followed) bool {
	mine, _ := f.table.digestOf(e.id)
	return !e.heard || mine.Version == 0 && len(e.early) == 0
}

// oldestLag returns when the oldest known disagreement was noticed; zero when
// there is none.
func (f *follower) oldestLag() time.Time {
	var oldest time.Time
	for _, e := range f.edges {
		if !e.since.IsZero() && (oldest.IsZero() || e.since.Before(oldest)) {
			oldest = e.since
		}
	}
	return oldest
}
