package ring

import (
	"context"
	"sync"
	"time"
)

const (
	// flushInterval is the least time between two batches of own changes.
	flushInterval = 50 * time.Millisecond
	// tickInterval is how often the worker looks for what is overdue.
	tickInterval = 100 * time.Millisecond
	// settleTimeout is when a node counts as settled in any case.
	settleTimeout = 10 * time.Second
)

// Run joins the cluster, again every 30 s for ever, and keeps the directory
// converging until ctx ends. Then it stops gossiping; without a Leave before,
// the other members find out in 2 to 3 s, as if the process had been killed.
// From when stopping is closed it joins nobody: the node is about to go, and so
// may those be that it would join. It is called once.
//
//	worker    inbox -> roster, follower, table; requests -> senders   (1)
//	flusher   own changes -> senders                                  (1)
//	teller    table, roster -> watchers                               (1)
//	joiner    GOSSIP_JOIN -> memberlist                               (1)
//	senders   queue -> stream                                         (1 for each member)
func (d *Directory) Run(ctx context.Context, stopping <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if len(d.watchers) == 0 {
		d.table.unwatched()
	}
	var parts sync.WaitGroup
	parts.Go(func() { d.work(ctx) })
	parts.Go(func() { d.flush(ctx) })
	parts.Go(func() { d.tellWatchers(ctx) })
	parts.Go(func() { d.keepJoining(ctx, stopping) })
	<-ctx.Done()
	// Closing first ends what blocks in the network.
	err := d.Close()
	parts.Wait()
	d.senders.running.Wait()
	return err
}

// work is the one goroutine that takes in what the gossip brings.
func (d *Directory) work(ctx context.Context) {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	deadline := time.Now().Add(settleTimeout)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.inbox.wake:
		case <-ticker.C:
		}
		// Read before the inbox: what joining brought is in there by now.
		joined := d.joined.Load()
		d.takeIn(ctx, time.Now())
		d.ask(time.Now())
		d.settle(joined, time.Now().After(deadline))
	}
}

func (d *Directory) takeIn(ctx context.Context, now time.Time) {
	members, messages := d.inbox.take()
	for name, m := range members {
		if name != d.Self().Name {
			d.takeInMember(ctx, now, m)
		}
	}
	for _, data := range messages {
		m, err := decodeMessage(data)
		if err != nil {
			d.metrics.dropped(dropMalformed)
			d.refusals.Do(func() { d.logger.Warn("gossip messages are refused", "error", err) })
			continue
		}
		for range m.Unknown {
			d.metrics.dropped(dropUnknownKind)
		}
		d.takeInMessage(now, m)
	}
}

func (d *Directory) takeInMember(ctx context.Context, now time.Time, e membershipEvent) {
	if !e.live {
		d.forgetMember(e.node.Name)
		return
	}
	m, err := decodeMember(&e.node)
	if err != nil {
		return // NotifyAlive has refused it
	}
	changed, added := d.roster.put(m)
	if added {
		d.logger.Info("member joined", "member", m.Name, "tier", m.Tier, "address", m.Address, "build", m.Build)
		d.senders.add(ctx, e.node)
		d.answerStranger(idOf(m.Name))
		if m.Tier == TierEdge {
			d.follower.join(now, m.Name)
		}
	}
	if changed {
		d.noteMembersChanged()
	}
}

func (d *Directory) forgetMember(name string) {
	m, known := d.roster.remove(name)
	if !known {
		return
	}
	d.senders.remove(name)
	claims := d.table.total.Load()
	d.follower.leave(name)
	d.logger.Info("member gone", "member", m.Name, "tier", m.Tier, "claims", claims-d.table.total.Load())
	d.noteMembersChanged()
}

func (d *Directory) noteMembersChanged() {
	d.membersChanged.Store(true)
	signal(d.table.pending.wake)
}

func (d *Directory) takeInMessage(now time.Time, m message) {
	for _, x := range m.Digests {
		d.follower.digest(now, x)
	}
	for _, have := range m.Requests {
		d.answer(m.Sender, have)
	}
	for _, c := range m.Chunks {
		// An edge speaks for itself only.
		if c.Digest.Edge == m.Sender {
			d.follower.chunk(now, c)
		}
	}
	for _, b := range m.Batches {
		d.follower.batch(now, m.Sender, b)
	}
}

// maxStrangers bounds the requests kept for members not yet known.
const maxStrangers = 256

// answer gives a member that asks what it lacks of this edge's claims. A member
// that has just joined may ask before the news of it has come here: it is
// answered when that has.
func (d *Directory) answer(from edgeID, have digest) {
	if d.table.own == nil || have.Edge != d.table.own.id {
		return
	}
	known := false
	if own := *d.table.own.digest.Load(); own == have {
		known = d.senders.tell(from, digestsFrame([]digest{own}))
	} else {
		known = d.senders.wantSnapshot(from)
	}
	if !known && len(d.strangers) < maxStrangers {
		d.strangers[from] = have
	}
}

// answerStranger answers what a member asked before it was known.
func (d *Directory) answerStranger(id edgeID) {
	if have, asked := d.strangers[id]; asked {
		delete(d.strangers, id)
		d.answer(id, have)
	}
}

// ask sends the requests that are due and notes how far behind this node is.
func (d *Directory) ask(now time.Time) {
	for _, have := range d.follower.due(now) {
		d.senders.tell(have.Edge, requestFrame(have))
	}
	var since *time.Time
	if oldest := d.follower.oldestLag(); !oldest.IsZero() {
		since = &oldest
	}
	d.lagSince.Store(since)
}

func (d *Directory) settle(joined, overdue bool) {
	if d.settled.Load() {
		return
	}
	current := d.lagSince.Load() == nil
	switch {
	case joined && current:
		d.logger.Info("directory settled", "edges", len(d.Members(TierEdge)), "routers", len(d.Members(TierRouter)), "claims", d.table.total.Load())
	case overdue:
		d.logger.Warn("directory not settled in time, going on", "joined", joined, "current", current)
	default:
		return
	}
	d.settled.Store(true)
}

// flush sends this edge's own changes, at once after a pause and every 50 ms
// under load.
func (d *Directory) flush(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.table.flush:
		}
		if frames := batchFrames(d.table.takeOutgoing()); len(frames) > 0 {
			d.senders.broadcast(frames)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(flushInterval):
		}
	}
}

// tellWatchers is the one goroutine that calls the watchers.
func (d *Directory) tellWatchers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.table.pending.wake:
		}
		members := d.membersChanged.Swap(false)
		added, removed := d.table.changes()
		for _, w := range d.watchers {
			tell(w, added, removed, members)
		}
	}
}

// tell calls one watcher, removals first, so that a claim that was replaced
// does not take its successor along.
func tell(w Watcher, added, removed []*held, members bool) {
	if len(removed) > 0 {
		w.ClaimsRemoved(holdings(removed))
	}
	if len(added) > 0 {
		w.ClaimsAdded(holdings(added))
	}
	if members {
		w.MembersChanged()
	}
}

func holdings(list []*held) []Holding {
	out := make([]Holding, len(list))
	for i, h := range list {
		out[i] = h.holding()
	}
	return out
}
