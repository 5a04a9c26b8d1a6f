package presence

import (
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// compareMost is how often what is shown is compared with what was written where
	// nobody asks for more, and compareLeast bounds what a short heartbeat interval
	// costs the database.
	compareMost  = 20 * time.Second
	compareLeast = 2 * time.Second
)

// pace says how often what is shown is compared with what was written: so that a
// status that somebody else has changed is right again within the heartbeat's
// interval of the edges, the shortest if these differ.
type pace struct {
	least, most time.Duration

	interval time.Duration // the shortest of late; 0: none was told
	toldAt   time.Time
}

// told says what an edge has its daemons do. An interval that is told no more, as
// after a change of the setting, is forgotten when its daemons count as gone.
func (p *pace) told(interval time.Duration, now time.Time) {
	if interval <= 0 {
		return
	}
	over := now.Sub(p.toldAt) > protocol.MissedHeartbeats*p.interval
	if p.interval == 0 || interval <= p.interval || over {
		p.interval, p.toldAt = interval, now
	}
}

// every is two thirds of the interval, which leaves time to write.
func (p *pace) every() time.Duration {
	if p.interval == 0 {
		return p.most
	}
	return max(p.least, min(p.interval*2/3, p.most))
}
