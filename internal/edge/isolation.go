package edge

import (
	"context"
	"log/slog"
	"time"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/ring"
)

const (
	isolationPoll = time.Second
	// lossPatience is how long NATS is away before others are told. A server that
	// restarts is back by then.
	lossPatience = 5 * time.Second
	// alonePatience is how long others are given to say that they have lost NATS,
	// too, before this edge takes itself for the only one.
	alonePatience = 5 * time.Second
)

// isolation sends the daemons elsewhere while this edge has lost NATS and another
// one has not: nothing reaches them here. Where all edges have lost it, moving
// helps nobody. Its methods belong to the goroutine of Run.
type isolation struct {
	connected func() bool // to NATS
	members   interface {
		Members(tier ring.Tier) []ring.Member
		Self() ring.Member
		SetDraining(ctx context.Context, draining bool) error
	}
	door   *door
	logger *slog.Logger

	since  time.Time // when NATS was lost
	toldAt time.Time // when the others were told so; zero: they have not been
	again  time.Time // when those who are here then are asked to go as well
}

// Run looks every second until ctx ends.
func (i *isolation) Run(ctx context.Context) error {
	lifecycle.Every(ctx, isolationPoll, func(now time.Time) { i.look(ctx, now) })
	return nil
}

func (i *isolation) look(ctx context.Context, now time.Time) {
	switch {
	case i.door.draining.Load(): // for good
	case i.connected() && i.since.IsZero():
	case i.connected():
		i.since, i.again = time.Time{}, time.Time{}
		i.door.isolated.Store(false)
		if !i.toldAt.IsZero() {
			i.toldAt = time.Time{}
			i.tell(ctx, false)
		}
	case i.since.IsZero():
		i.since = now
	case i.toldAt.IsZero() && now.Sub(i.since) >= lossPatience:
		i.toldAt = now
		i.tell(ctx, true)
	case !i.toldAt.IsZero() && now.Sub(i.toldAt) >= alonePatience:
		i.leave(now)
	}
}

// tell says in the directory whether this edge can be of use.
func (i *isolation) tell(ctx context.Context, lost bool) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	i.door.lost.Store(lost)
	if err := i.members.SetDraining(ctx, i.door.unavailable()); err != nil {
		i.logger.Debug("no member heard yet whether this edge has NATS", "lost", lost, "error", err)
	}
}

// leave asks whoever is here to go, if there is somewhere to go. Who comes back
// is asked again.
func (i *isolation) leave(now time.Time) {
	alone := othersServe(i.members)
	if alone && !i.door.isolated.Load() {
		i.logger.Warn("NATS is lost to this edge and not to others: sending its daemons there", "connections", i.door.count())
	}
	i.door.isolated.Store(alone)
	if !alone || now.Before(i.again) {
		return
	}
	period := i.door.cfg.Listen.DrainPeriod
	i.again = now.Add(max(period, alonePatience))
	i.door.sendAway(period)
}
