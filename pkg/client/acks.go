package client

import (
	"sync"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// maxPendingAcks bounds what waits to be acknowledged while there is no
// connection. Over it the oldest is forgotten, which costs a repeat of that
// event and never the event itself.
const maxPendingAcks = 10 * protocol.MaxAckIDs

// acks collects what is to be acknowledged. Its methods may be called at once.
type acks struct {
	wake chan struct{}

	mu  sync.Mutex
	ids []string
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1)} }

func (a *acks) add(ids ...string) {
	if len(ids) == 0 {
		return
	}
	a.mu.Lock()
	a.ids = append(a.ids, ids...)
	if over := len(a.ids) - maxPendingAcks; over > 0 {
		a.ids = append([]string(nil), a.ids[over:]...)
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *acks) empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids) == 0
}

// take removes what fits into one ack message.
func (a *acks) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := min(len(a.ids), protocol.MaxAckIDs)
	out := a.ids[:n:n]
	a.ids = a.ids[n:]
	if len(a.ids) == 0 {
		a.ids = nil
	}
	return out
}
