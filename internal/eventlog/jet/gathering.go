package jet

import (
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// gets holds the direct gets whose answers are awaited.
type gets struct {
	inbox inbox

	mu      sync.Mutex
	pending map[string]*gathering // by the subject of the answers
}

// gathering is one answer that comes in, message by message.
type gathering struct {
	collect collector     // of the inbox, until done is closed
	err     error         // as collect
	done    chan struct{} // closed when the answer is whole, or cannot be
	heard   atomic.Uint64 // messages
}

func newGets(nc *nats.Conn) *gets {
	g := &gets{pending: make(map[string]*gathering)}
	g.inbox = inbox{nc: nc, answered: g.answered}
	return g
}

// add returns the subject under which the answer is awaited, until remove.
func (s *gets) add(g *gathering) (reply string, err error) {
	if reply, err = s.inbox.next(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[reply] = g
	return reply, nil
}

func (s *gets) remove(reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, reply)
}

// answered takes a message of an answer; one that nobody awaits any more is
// dropped.
func (s *gets) answered(msg *nats.Msg) {
	s.mu.Lock()
	g := s.pending[msg.Subject]
	s.mu.Unlock()
	if g == nil {
		return
	}
	g.heard.Add(1)
	whole, err := g.collect.add(msg)
	if whole || err != nil {
		g.err = err
		s.remove(msg.Subject)
		close(g.done)
	}
}
