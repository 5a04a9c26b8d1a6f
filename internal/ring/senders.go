package ring

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// queueFrames and queueBytes bound what waits for one member. Beyond, all
	// of it is dropped: the member finds out and fetches a snapshot.
	queueFrames = 1024
	queueBytes  = 4 << 20
	// messageBytes is when a message is closed; a frame may exceed it.
	messageBytes = 256 << 10
	// snapshotSlots bounds the snapshots that are sent at the same time.
	snapshotSlots = 4
	// sendPause is how long a member that could not be reached is left alone. What
	// there is for it meanwhile goes in one message.
	sendPause = 250 * time.Millisecond
)

// senders holds one queue and one goroutine for each other member: a send waits
// for the member, for seconds if it is dead, and none may hold up the others.
type senders struct {
	self    edgeID
	table   *table
	metrics *metrics
	logger  *slog.Logger
	send    func(to *peer, message []byte) error // blocks
	// standingTo returns the stream to a member that stays open; nil: it takes none.
	standingTo func(memberlist.Node) *standing
	slots      chan struct{}
	running    sync.WaitGroup

	mu    sync.Mutex
	peers map[edgeID]*peer // guarded by mu
}

// peer is one other member.
type peer struct {
	node     memberlist.Node // set once
	standing *standing       // its sender's own; nil: there is a stream for each message
	wake     chan struct{}
	stop     context.CancelFunc

	mu       sync.Mutex
	frames   [][]byte      // guarded by mu; shared with other peers, never changed
	bytes    int           // guarded by mu
	snapshot snapshotState // guarded by mu
}

// snapshotState keeps a member that asks again from being sent two snapshots.
type snapshotState int

const (
	snapshotIdle snapshotState = iota
	snapshotWanted
	snapshotSending
)

// add starts a sender; it ends with ctx or by remove. A member known already
// keeps its sender.
func (s *senders) add(ctx context.Context, node memberlist.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := idOf(node.Name)
	if s.peers[id] != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &peer{node: node, wake: make(chan struct{}, 1), stop: cancel}
	if s.standingTo != nil {
		p.standing = s.standingTo(node)
	}
	s.peers[id] = p
	s.running.Go(func() { s.run(ctx, p) })
}

func (s *senders) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[idOf(name)]; p != nil {
		p.stop()
		delete(s.peers, idOf(name))
	}
}

// broadcast queues the frames for every member.
func (s *senders) broadcast(frames [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		s.enqueue(p, frames...)
	}
}

// tell queues a frame for one member. It reports whether there is such a member.
func (s *senders) tell(id edgeID, frame []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[id]
	if p != nil {
		s.enqueue(p, frame)
	}
	return p != nil
}

// wantSnapshot makes the member's sender send this edge's snapshot next. It
// reports whether there is such a member.
func (s *senders) wantSnapshot(id edgeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[id]
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.snapshot == snapshotIdle {
		p.snapshot = snapshotWanted
		signal(p.wake)
	}
	return true
}

func (s *senders) enqueue(p *peer, frames ...[]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, frame := range frames {
		if len(p.frames) >= queueFrames || p.bytes+len(frame) > queueBytes {
			p.frames, p.bytes = nil, 0
			s.metrics.dropped(dropQueueFull)
		}
		p.frames = append(p.frames, frame)
		p.bytes += len(frame)
	}
	signal(p.wake)
}

func (s *senders) run(ctx context.Context, p *peer) {
	defer p.standing.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for more, reached := true, true; more && ctx.Err() == nil; {
			if more, reached = s.sendNext(ctx, p); !reached {
				select {
				case <-ctx.Done():
				case <-time.After(sendPause):
				}
			}
		}
	}
}

// sendNext sends the snapshot, if one is wanted, and one message of what is
// queued. It reports whether there may be more, and whether the member was
// reached.
func (s *senders) sendNext(ctx context.Context, p *peer) (more, reached bool) {
	frames, snapshot := p.take()
	reached = true
	if snapshot {
		reached = s.sendSnapshot(ctx, p)
		p.snapshotDone()
	}
	if len(frames) > 0 {
		reached = s.deliver(p, frames...)
	}
	return snapshot || len(frames) > 0, reached
}

// take removes as many frames as make one message.
func (p *peer) take() (frames [][]byte, snapshot bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, size := 0, 0
	for n < len(p.frames) && (n == 0 || size+len(p.frames[n]) <= messageBytes) {
		size += len(p.frames[n])
		n++
	}
	frames, p.frames = p.frames[:n:n], p.frames[n:]
	p.bytes -= size
	if p.snapshot == snapshotWanted {
		p.snapshot, snapshot = snapshotSending, true
	}
	return frames, snapshot
}

func (p *peer) snapshotDone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshot = snapshotIdle
}

// sendSnapshot encodes chunk by chunk, so that a slow member costs no more
// memory than one of them. It reports whether the member was reached.
func (s *senders) sendSnapshot(ctx context.Context, p *peer) bool {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return true
	}
	d, claims := s.table.snapshot()
	for i := range chunksOf(len(claims)) {
		if ctx.Err() != nil || !s.deliver(p, chunkFrame(d, claims, i)) {
			s.metrics.snapshot(snapshotFailed)
			return false
		}
	}
	s.metrics.snapshot(snapshotSent)
	return true
}

// deliver sends the frames as one message; what fails is dropped.
func (s *senders) deliver(p *peer, frames ...[]byte) bool {
	message := slices.Concat(append([][]byte{appendHeader(nil, s.self)}, frames...)...)
	if err := s.send(p, message); err != nil {
		s.metrics.dropped(dropSendFailed)
		s.logger.Debug("member not reached, it will fetch what it missed", "member", p.node.Name, "error", err)
		return false
	}
	s.metrics.sentBytes.Add(float64(len(message)))
	return true
}

func (s *senders) length() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.peers {
		p.mu.Lock()
		n += len(p.frames)
		p.mu.Unlock()
	}
	return n
}
