package traffic

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Seat is a place that one daemon after the other takes. Its methods may be
// called at the same time.
type Seat struct {
	// Number counts the seats of its orchestrator, from 0.
	Number int
	Habit  Habit
	// Profile is that of the next daemon. Only whoever lets it enter changes it: the
	// scenario, and while the crowd stirs the seat's own habit.
	Profile Profile

	crowd *Crowd
	first protocol.DaemonID // before the first Rename
	names int               // of Rename

	mu      sync.Mutex
	daemon  *Daemon           // nil while it is empty
	awaited protocol.DaemonID // see Awaited
}

// Daemon returns who is there; nil: nobody.
func (s *Seat) Daemon() *Daemon {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.daemon
}

// Enter has a daemon take the seat; one that is taken is left alone.
func (s *Seat) Enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.daemon != nil {
		return nil
	}
	d, err := StartDaemon(s.crowd.ledger, s.Profile)
	s.daemon = d
	return err
}

// AwaitSubscribed waits until the gateway has confirmed the daemon's
// subscription. An empty seat has nothing to wait for.
func (s *Seat) AwaitSubscribed(ctx context.Context) error {
	if d := s.Daemon(); d != nil {
		return d.AwaitSubscribed(ctx)
	}
	return nil
}

// Leave has the daemon leave gracefully, if one is there.
func (s *Seat) Leave() {
	s.mu.Lock()
	d := s.daemon
	s.daemon, s.awaited = nil, ""
	s.mu.Unlock()
	if d == nil {
		return
	}
	if err := d.Stop(); err != nil {
		s.crowd.refuse(d.Profile().Daemon, err)
	}
}

// Desert has the machine of the daemon vanish, if one is there. Its edge keeps the
// connection until it finds out; the daemon ends with the crowd.
func (s *Seat) Desert() {
	s.mu.Lock()
	d := s.daemon
	s.daemon = nil
	s.mu.Unlock()
	if d != nil {
		d.Desert()
		s.crowd.desert(d)
	}
}

// Crash ends the daemon without a word, if one is there, as when its process is
// killed: its edge learns at once that the connection is gone.
func (s *Seat) Crash() {
	d := s.Daemon()
	s.Desert()
	if d != nil {
		d.Cut()
	}
}

// Cut ends the daemon's network connection, if there is one, without a word.
func (s *Seat) Cut() {
	if d := s.Daemon(); d != nil {
		d.Cut()
	}
}

// Ack acknowledges events that the handler did not. A daemon that has left
// since cannot.
func (s *Seat) Ack(ids ...string) {
	if d := s.Daemon(); d != nil {
		d.Ack(ids...)
	}
}

// Rename gives the next daemon an id that the seat has not had.
func (s *Seat) Rename() {
	if s.names == 0 {
		s.first = s.Profile.Daemon
	}
	s.names++
	s.Profile.Daemon = s.first + protocol.DaemonID(fmt.Sprintf("_%d", s.names))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaited = s.Profile.Daemon
}

// Awaited is the id of the daemon that is to come, or has come and is not yet
// subscribed, under an id that nobody has had; empty: there is none.
func (s *Seat) Awaited() protocol.DaemonID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.daemon != nil && s.daemon.Subscribed() {
		s.awaited = ""
	}
	return s.awaited
}

// Turn has the next daemon try the crowd's URLs beginning with the n-th.
func (s *Seat) Turn(n int) {
	n %= len(s.crowd.urls)
	s.Profile.URLs = slices.Concat(s.crowd.urls[n:], s.crowd.urls[:n])
}
