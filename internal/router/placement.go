package router

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// directory is what placement needs of the ring.
type directory interface {
	Self() ring.Member
	Members(ring.Tier) []ring.Member
	SetDraining(ctx context.Context, draining bool) error
	Leave(ctx context.Context) error
}

// placement decides which partitions this router serves: those that rendezvous
// hashing over the routers that live and do not drain gives to it. All routers
// decide alike from the same directory; while theirs differ, a partition may
// be served twice, or by nobody until the news arrives.
//
// A partition moves without a pause: the old owner goes on for a moment after
// the new one has begun. A router that is not ready, or without NATS, drains,
// so that others take its partitions.
type placement struct {
	directory directory
	connected func() bool
	routing   *routing
	// changed asks for a look; it holds one request.
	changed chan struct{}

	// Owned by run.
	draining  bool
	connectAt time.Time // when NATS was last seen connected

	mu         sync.Mutex
	partitions map[event.Partition]*partition
	looked     bool
}

func newPlacement(d directory, connected func() bool) *placement {
	return &placement{
		directory: d, connected: connected, draining: true,
		changed:    make(chan struct{}, 1),
		partitions: make(map[event.Partition]*partition),
	}
}

// look asks run to look at the directory.
func (l *placement) look() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// run places partitions until ctx ends, hands them over, and returns when the
// last is done. When base ends they end with it.
func (l *placement) run(ctx, base context.Context, routing *routing) {
	l.routing = routing
	l.connectAt = time.Now()
	ticker := time.NewTicker(routing.timing.placement)
	defer ticker.Stop()
	for {
		now := time.Now()
		l.setDraining(base, l.isolated(now), routing.timing.tick)
		l.place(base, now)
		select {
		case <-ctx.Done():
			l.handOver(base)
			return
		case <-base.Done():
			l.wait()
			return
		case <-l.changed:
		case <-ticker.C:
		}
	}
}

func (l *placement) isolated(now time.Time) bool {
	if l.connected() {
		l.connectAt = now
	}
	return now.Sub(l.connectAt) > l.routing.timing.isolated
}

// setDraining tells the others when it changes, and waits for the first of them
// to have heard, for a while. It does not matter if nobody was reached: they
// are told with the next gossip.
func (l *placement) setDraining(ctx context.Context, draining bool, patience time.Duration) {
	if draining == l.draining {
		return
	}
	l.draining = draining
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.directory.SetDraining(ctx, draining); err != nil {
		l.routing.logger.Debug("no member heard of draining yet", "error", err)
	}
}

// candidates are the routers that partitions are placed on.
func (l *placement) candidates() []string {
	var names []string
	for _, m := range l.directory.Members(ring.TierRouter) {
		if !m.Draining {
			names = append(names, m.Name)
		}
	}
	return names
}

// ownerOf returns which of the candidates a partition belongs to, "" if there are none.
func ownerOf(id event.Partition, candidates []string) string {
	return ring.Owner("partition "+strconv.Itoa(int(id)), candidates)
}

// place starts what this router is to serve, and leaves what others have
// been serving for the time of a handover. With no candidate at all, everyone
// without NATS for instance, it keeps what it has.
func (l *placement) place(base context.Context, now time.Time) {
	candidates, self := l.candidates(), l.directory.Self().Name
	if len(candidates) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked = true
	for id := range event.Partition(l.routing.cfg.Log.Partitions) {
		p := l.partitions[id]
		mine := ownerOf(id, candidates) == self
		switch {
		case p != nil && isClosed(p.done): // left
			delete(l.partitions, id)
			p = nil
		case p != nil && p.leaveAt.IsZero() && !mine:
			p.leaveAt = now.Add(l.routing.timing.handover)
		case p != nil && mine:
			p.leaveAt = time.Time{}
		}
		switch {
		case p == nil && mine:
			l.partitions[id] = serve(base, l.routing, id)
		case p != nil && !p.leaveAt.IsZero() && !now.Before(p.leaveAt):
			p.leave()
		}
	}
}

// handOver lets others take over what this router serves, then leaves it. All
// that takes time comes before: where all routers stop at once, nobody serves
// from then on until they have been started again.
func (l *placement) handOver(base context.Context) {
	l.setDraining(base, true, time.Second)
	if len(l.candidates()) > 0 {
		lifecycle.Sleep(base, l.routing.timing.handover)
	}
	l.leaveDirectory(base)
	for _, p := range l.all() {
		p.leave()
	}
	l.wait()
}

// leaveDirectory tells the other members that this router goes, unless it does
// not end gracefully: then they find out as they do when a node dies.
func (l *placement) leaveDirectory(base context.Context) {
	if base.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(base, time.Second)
	defer cancel()
	if err := l.directory.Leave(ctx); err != nil {
		// Normal where the whole cluster stops; else the others find out as they do
		// when a node dies.
		l.routing.logger.Info("left the gossip without telling everyone", "error", err)
	}
}

func (l *placement) wait() {
	for _, p := range l.all() {
		<-p.done
	}
}

func (l *placement) all() []*partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*partition, 0, len(l.partitions))
	for _, p := range l.partitions {
		all = append(all, p)
	}
	return all
}

// owned lists the partitions that are to be served here, without those that are
// being handed over.
func (l *placement) owned() []event.Partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	var owned []event.Partition
	for id, p := range l.partitions {
		if p.leaveAt.IsZero() {
			owned = append(owned, id)
		}
	}
	return owned
}

func (l *placement) get(id event.Partition) *partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.partitions[id]
}

// reconnected makes every run compare itself with the log, and send again what
// the edges have not confirmed: their receipts are lost.
func (l *placement) reconnected() {
	for _, p := range l.all() {
		if r := p.current.Load(); r != nil {
			r.kick()
			r.resend()
		}
	}
}

func (l *placement) epochChanged(id event.Partition, epoch eventlog.Epoch) {
	if p := l.get(id); p != nil {
		p.epochChanged(epoch)
	}
}

// tell gives an input to the lane of a partition, if this router serves it.
func (l *placement) tell(id event.Partition, input func(*lane.Lane)) {
	if p := l.get(id); p != nil {
		if r := p.current.Load(); r != nil {
			r.tell(input)
		}
	}
}

// check tells /readyz about the partitions.
func (l *placement) check() (bool, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.looked {
		return false, "not placed yet"
	}
	for id, p := range l.partitions {
		if err := p.ready(); err != nil && p.leaveAt.IsZero() {
			return false, fmt.Sprintf("partition %d: %v", id, err)
		}
	}
	return true, fmt.Sprintf("serving %d of %d", len(l.partitions), l.routing.cfg.Log.Partitions)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
