package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// authors is how many publish side by side, one half of them on Redis. Each has
	// its own orchestrators and waits for one event before the next.
	authors = 20
	// finishTimeout bounds how long events that were begun may take after all healed.
	finishTimeout = time.Minute
	// slow is a publish that says that NATS, or the machine, is overcome: what
	// edges write may take as long.
	slow = time.Second
)

// publish begins to publish.
func (c *chaos) publish() {
	for i := range authors {
		// Author i has orchestrators i, i+authors, i+2*authors and so on.
		own := (len(c.orchestrators) - i + authors - 1) / authors
		if own < 1 {
			break
		}
		// Orchestrators of every habit are on both ways, hence not i%2.
		way := traffic.Way(i / len(c.options.habits()) % 2)
		if c.options.careless && i == len(c.options.habits()) { // that of the steady ones
			way = traffic.Astray
		}
		random := c.Random(uint64(partAuthors + i))
		c.Feed.Start(traffic.Author{Way: way, Every: time.Second * authors / time.Duration(c.options.rate), Next: func(time.Time) event.Event {
			return c.next(c.orchestrators[i+authors*random.IntN(own)], random)
		}})
	}
}

// finish has every author end, and waits until what was begun is acknowledged.
func (c *chaos) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	err := c.Feed.Finish(ctx)
	c.Say("everything published")
	return err
}

var eventTypes = []protocol.EventType{
	"message.received", "message.received", "message.reaction", "channel.joined", "presence.updated",
	"call.started", "vp.mentioned", "system.maintenance",
}

var channels = []string{"", "c1", "c2", "c3"}

func (c *chaos) next(seats []*traffic.Seat, random *rand.Rand) event.Event {
	n := c.events.Add(1)
	e := traffic.Message(seats[0].Profile.Orchestrator, fmt.Sprintf("e-%d", n), fmt.Appendf(nil, `{"n": %d}`, n))
	e.Type, e.ChannelID = eventTypes[random.IntN(len(eventTypes))], channels[random.IntN(len(channels))]
	e.RequiresAck = random.IntN(5) > 0
	if random.IntN(20) == 0 {
		if d := seats[random.IntN(len(seats))].Daemon(); d != nil && d.Subscribed() {
			e.DaemonID = d.Profile().Daemon
		}
	}
	if c.options.careless {
		if id := seats[random.IntN(len(seats))].Awaited(); id != "" && random.IntN(2) == 0 {
			e.DaemonID = id
		}
	}
	if random.IntN(50) == 0 {
		e.Priority = 1
	}
	return e
}

// number is that of an event's id.
func number(id string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(id, "e-"), 10, 64)
	return n
}

// span is a time from one moment to another.
type span struct{ from, to time.Time }

// slowSpans are when the log was slow, for whatever reason, a busy machine too.
func (c *chaos) slowSpans() (all []span) {
	for _, p := range c.Feed.Since(time.Time{}) {
		to := p.Taken
		if to.IsZero() {
			to = time.Now()
		}
		if p.Way == traffic.IntoLog && to.Sub(p.Began) > slow {
			all = append(all, span{p.Began, to})
		}
	}
	return all
}
