package main

import (
	"context"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// seat is a daemon, and the edge that it is to be on when a fault begins.
type seat struct {
	stream  *stream // nil: a quiet one
	number  int     // within its stream
	home    string  // URL
	profile traffic.Profile
	daemon  *traffic.Daemon

	mu    sync.Mutex
	at    string // URL of the edge that has confirmed its subscription
	waits []waited
}

// waited is a wait of the daemon's own before it connected again.
type waited struct {
	from  time.Time
	delay time.Duration
}

func newSeat(s *stream, number int, p traffic.Profile) *seat {
	x := &seat{stream: s, number: number, home: p.URLs[0], profile: p}
	// The client's defaults, but for this: here a daemon cannot have been
	// connected for long when the next fault comes.
	x.profile.Backoff = &client.Backoff{Healthy: time.Second}
	x.profile.OnState = x.changed
	x.profile.Handle = func(_ context.Context, e protocol.Event) error {
		if x.stream != nil {
			x.stream.received(x.number, e.EventID, time.Now())
		}
		return nil
	}
	return x
}

func (x *seat) changed(c client.StateChange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch c.State {
	case client.StateSubscribed:
		x.at = c.URL
	case client.StateDisconnected:
		x.at = ""
		x.waits = append(x.waits, waited{c.Time, c.Delay})
	}
}

func (x *seat) edge() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.at
}

// waitedSince is how long the daemon has waited of its own accord.
func (x *seat) waitedSince(from time.Time) (total time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.waits {
		if !w.from.Before(from) {
			total += w.delay
		}
	}
	return total
}

func (x *seat) enter(l *ledger.Ledger) (err error) {
	x.daemon, err = traffic.StartDaemon(l, x.profile)
	return err
}

// goHome has a daemon that is elsewhere come back to its first edge.
func (x *seat) goHome(ctx context.Context, l *ledger.Ledger) error {
	if x.edge() == x.home {
		return nil
	}
	if err := x.daemon.Stop(); err != nil {
		return err
	}
	if err := x.enter(l); err != nil {
		return err
	}
	return x.daemon.AwaitSubscribed(ctx)
}
