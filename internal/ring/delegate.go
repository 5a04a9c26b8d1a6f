package ring

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// ackPayloadBytes bounds the digests in a ping's answer, so that the packet
// stays small and room remains for the membership news that ride along.
const ackPayloadBytes = 600

// delegate is what memberlist calls. None of its methods waits for anything or
// calls memberlist, which holds its locks meanwhile; and it is whole before
// memberlist is created, because calls come before the constructor returns.
type delegate struct {
	self   edgeID
	table  *table
	inbox  *inbox
	meta   atomic.Pointer[[]byte]
	turn   atomic.Uint64 // whose digests come next in a ping's answer
	states interface{ Set(float64) }
	admit  *admission
	// standing says that messages are taken on streams that stay open.
	standing bool
}

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
	_ memberlist.PingDelegate  = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
)

func newDelegate(self Member, t *table, b *inbox, m *metrics, standing bool) *delegate {
	d := &delegate{self: idOf(self.Name), table: t, inbox: b, states: m.stateBytes, admit: newAdmission(m), standing: standing}
	d.setMeta(self)
	return d
}

func (d *delegate) setMeta(self Member) {
	meta := encodeMeta(self)
	if d.standing {
		meta[2] |= metaStanding
	}
	d.meta.Store(&meta)
}

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte { return *d.meta.Load() }

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(data []byte) { d.inbox.put(data) }

// GetBroadcasts implements memberlist.Delegate. Broadcasts of ours would wait
// behind membership news and be cut to a packet, so claims go by stream.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate: the digests of all edges.
func (d *delegate) LocalState(bool) []byte {
	state := append(appendHeader(nil, d.self), digestsFrame(d.table.digests(nil))...)
	d.states.Set(float64(len(state)))
	return state
}

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(state []byte, _ bool) {
	if len(state) > 0 {
		d.inbox.put(state)
	}
}

// AckPayload implements memberlist.PingDelegate: this edge's own digest and,
// in turn, those of as many others as there is room for.
func (d *delegate) AckPayload() []byte {
	const room = (ackPayloadBytes - headerBytes - frameBytes - 1) / digestBytes
	edges := *d.table.live.Load()
	n := min(room, len(edges))
	digests := make([]digest, 0, n+1)
	if own, ok := d.table.digestOf(d.self); ok {
		digests = append(digests, own)
		n = min(room-1, len(edges))
	}
	start := d.turn.Add(uint64(n)) - uint64(n)
	for i := range uint64(n) {
		if e := edges[(start+i)%uint64(len(edges))]; e.id != d.self {
			digests = append(digests, *e.digest.Load())
		}
	}
	return append(appendHeader(nil, d.self), digestsFrame(digests)...)
}

// NotifyPingComplete implements memberlist.PingDelegate.
func (d *delegate) NotifyPingComplete(_ *memberlist.Node, _ time.Duration, payload []byte) {
	if len(payload) > 0 {
		d.inbox.put(payload)
	}
}

var errMembers = errors.New("there are as many members as may be, or many have come of late")

// NotifyAlive implements memberlist.AliveDelegate: what we cannot read, or what is
// larger than a member says of itself, or one member too many, is not taken for a
// member. memberlist would keep it, and tell the others.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if len(n.Name) > maxNameBytes || len(n.Addr) > net.IPv6len || len(n.Meta) > memberlist.MetaMaxSize {
		return errors.New("name, address or metadata are too long")
	}
	if _, err := decodeMember(n); err != nil {
		return err
	}
	if !d.admit.admits(time.Now(), n.Name) {
		return errMembers
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.admit.joined(n.Name)
	d.inbox.member(n, true)
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.inbox.member(n, true) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.admit.left(n.Name)
	d.inbox.member(n, false)
}
