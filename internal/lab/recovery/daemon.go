package recovery

import (
	"context"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
)

// daemon is a seat, and the edge that its daemon is on.
type daemon struct {
	*traffic.Seat
	stream *stream // nil: a quiet one
	home   string  // URL of the edge that it is to be on when a fault begins

	mu    sync.Mutex
	at    string // URL of the edge that has confirmed its subscription
	waits []waited
}

// waited is a wait of the daemon's own before it connected again.
type waited struct {
	from  time.Time
	delay time.Duration
}

func newDaemon(s *stream, seat *traffic.Seat) *daemon {
	d := &daemon{Seat: seat, stream: s, home: seat.Profile.URLs[0]}
	// The client's defaults, but for this: here a daemon cannot have been
	// connected for long when the next fault comes.
	seat.Profile.Backoff = &client.Backoff{Healthy: time.Second}
	seat.Profile.OnState = d.changed
	return d
}

func (d *daemon) changed(c client.StateChange) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch c.State {
	case client.StateSubscribed:
		d.at = c.URL
	case client.StateDisconnected:
		d.at = ""
		d.waits = append(d.waits, waited{c.Time, c.Delay})
	}
}

func (d *daemon) edge() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

// waitedSince is how long the daemon has waited of its own accord.
func (d *daemon) waitedSince(from time.Time) (total time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.waits {
		if !w.from.Before(from) {
			total += w.delay
		}
	}
	return total
}

// goHome has a daemon that is elsewhere come back to its first edge.
func (d *daemon) goHome(ctx context.Context) error {
	if d.edge() == d.home {
		return nil
	}
	d.Leave()
	if err := d.Enter(); err != nil {
		return err
	}
	return d.AwaitSubscribed(ctx)
}
