package bridge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// maxConnectedDaemons bounds what is remembered: about 20 MB.
	maxConnectedDaemons = 100_000
	// sweepInterval is how often those that are gone are looked for, once there is
	// no more room.
	sweepInterval = 10 * time.Second
)

// connectedDaemons knows whose a daemon is that is connected right now, from what
// edges report over NATS: when a daemon connects, and with each heartbeat. The
// directory of edges and routers knows it some moments earlier, but to be a member
// of its gossip a bridge would need keys, ports and a share of all its traffic,
// where these reports come to it anyway. It says nothing of daemons that have been
// silent since this bridge started, for half a minute at most.
//
// Daemons that only say themselves what they are called are not believed: another
// orchestrator's daemon may bear any name, and would be sent this one's events
// (invariant 5).
type connectedDaemons struct {
	mu      sync.Mutex
	holders map[protocol.DaemonID]holder // guarded by mu
	swept   time.Time                    // guarded by mu
}

// holder is the orchestrator whose daemon bears an id.
type holder struct {
	orchestrator protocol.OrchestratorID
	until        time.Time // unless it is heard of again
	disputed     time.Time // until then another orchestrator has one of that id, too
}

func newConnectedDaemons() *connectedDaemons {
	return &connectedDaemons{holders: map[protocol.DaemonID]holder{}}
}

// Run hears what edges report until ctx ends. Each bridge hears all of it, while
// only one of them writes it to Redis.
func (c *connectedDaemons) Run(ctx context.Context, conn *nats.Conn) error {
	sub, err := conn.Subscribe(heartbeat.AllSubjects, func(m *nats.Msg) {
		beats, _ := heartbeat.Decode(m.Data) // what cannot be read is counted by the bridge that writes it
		c.note(beats, time.Now())
	})
	if err != nil {
		return fmt.Errorf("subscribe to heartbeats: %w", err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be gone
	return nil
}

func (c *connectedDaemons) note(beats []heartbeat.Beat, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range beats {
		if _, says := orchestratorInDaemonID(b.Daemon); says || !b.Named || b.Orchestrator.Reserved() {
			continue
		}
		h, known := c.holders[b.Daemon]
		if !known && !c.roomLocked(now) {
			continue
		}
		if h.orchestrator != b.Orchestrator && now.Before(h.until) {
			h.disputed = now.Add(heartbeat.Lifetime)
		}
		h.orchestrator, h.until = b.Orchestrator, now.Add(heartbeat.Lifetime)
		c.holders[b.Daemon] = h
	}
}

// roomLocked reports whether one more can be remembered. c.mu is held.
func (c *connectedDaemons) roomLocked(now time.Time) bool {
	if len(c.holders) >= maxConnectedDaemons && now.Sub(c.swept) >= sweepInterval {
		c.swept = now
		for id, h := range c.holders {
			if now.After(h.until) {
				delete(c.holders, id)
			}
		}
	}
	return len(c.holders) < maxConnectedDaemons
}

// find returns whose daemon this is, if it is connected and one orchestrator's
// alone; disputed: it is another's as well, so that nothing said before counts. It
// may be called from any goroutine; nil knows nobody.
func (c *connectedDaemons) find(id protocol.DaemonID, now time.Time) (orchestrator protocol.OrchestratorID, disputed bool) {
	if c == nil {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.holders[id]
	if disputed = now.Before(h.disputed); disputed || !now.Before(h.until) {
		return "", disputed
	}
	return h.orchestrator, false
}
