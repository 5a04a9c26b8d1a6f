package ring

import (
	"sync"

	"github.com/hashicorp/memberlist"
)

const (
	inboxMessages = 8192
	inboxBytes    = 64 << 20
)

// inbox takes what memberlist's callbacks bring, which must never block, to
// the one goroutine that works on it. Messages are bounded, and dropped beyond:
// the digests make good for them. Nothing makes good for membership, so of it
// the latest state of each member is kept.
type inbox struct {
	wake    chan struct{}
	metrics *metrics

	mu       sync.Mutex
	messages [][]byte                   // guarded by mu
	bytes    int                        // guarded by mu
	members  map[string]membershipEvent // guarded by mu
}

// membershipEvent is the latest state of a member.
type membershipEvent struct {
	node memberlist.Node
	live bool
}

func newInbox(m *metrics) *inbox {
	return &inbox{wake: make(chan struct{}, 1), metrics: m, members: make(map[string]membershipEvent)}
}

// put copies the message.
func (b *inbox) put(data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.messages) >= inboxMessages || b.bytes+len(data) > inboxBytes {
		b.metrics.dropped(dropInboxFull)
		return
	}
	b.messages = append(b.messages, append([]byte(nil), data...))
	b.bytes += len(data)
	signal(b.wake)
}

// member copies the node: memberlist changes it later, under its own lock.
func (b *inbox) member(n *memberlist.Node, live bool) {
	node := memberlist.Node{
		Name: n.Name, Addr: append([]byte(nil), n.Addr...), Port: n.Port, Meta: append([]byte(nil), n.Meta...),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[node.Name] = membershipEvent{node: node, live: live}
	signal(b.wake)
}

func (b *inbox) take() (members map[string]membershipEvent, messages [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	members, messages = b.members, b.messages
	b.members, b.messages, b.bytes = make(map[string]membershipEvent), nil, 0
	return members, messages
}

func (b *inbox) length() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages)
}
