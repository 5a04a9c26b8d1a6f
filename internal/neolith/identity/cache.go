package identity

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// unknownFor is how long it takes at most until a new orchestrator is known if
	// somebody has asked for it too early.
	unknownFor = 2 * time.Second
	// maxUnknown bounds the ids that do not exist. They have a cache of their
	// own, so that whoever makes up ids pushes no orchestrator out of the other.
	maxUnknown = 10_000
	// staleFor is how long an identity is good enough while PostgreSQL cannot be
	// asked: a night and the working day after it. Ids never move from one
	// orchestrator to another, so an old answer can only be wrong about an
	// orchestrator that was deleted, whose tokens end within the hour.
	staleFor = 24 * time.Hour
)

// cache remembers answers. It is not safe for concurrent use.
type cache struct {
	ttl     time.Duration
	known   *simplelru.LRU[protocol.OrchestratorID, remembered]
	unknown *simplelru.LRU[protocol.OrchestratorID, time.Time]
}

type remembered struct {
	identity Identity
	asked    time.Time
}

func newCache(cfg Config) (*cache, error) {
	known, err := simplelru.NewLRU[protocol.OrchestratorID, remembered](cfg.IdentityCacheSize, nil)
	if err != nil {
		return nil, err
	}
	unknown, err := simplelru.NewLRU[protocol.OrchestratorID, time.Time](maxUnknown, nil)
	if err != nil {
		return nil, err
	}
	return &cache{ttl: cfg.IdentityCacheTTL, known: known, unknown: unknown}, nil
}

// fresh returns an answer that needs no asking.
func (c *cache) fresh(id protocol.OrchestratorID, now time.Time) (Answer, bool) {
	if r, ok := c.known.Get(id); ok && now.Sub(r.asked) < c.ttl {
		return Answer{Identity: r.identity}, true
	}
	if asked, ok := c.unknown.Get(id); ok && now.Sub(asked) < unknownFor {
		return Answer{Err: ErrUnknown}, true
	}
	return Answer{}, false
}

// stale returns an identity that is good enough while nobody can be asked.
func (c *cache) stale(id protocol.OrchestratorID, now time.Time) (Identity, bool) {
	r, ok := c.known.Get(id)
	if !ok || now.Sub(r.asked) >= staleFor {
		return Identity{}, false
	}
	return r.identity, true
}

// put remembers what PostgreSQL said, when it was asked at the time given.
func (c *cache) put(id protocol.OrchestratorID, identity Identity, exists bool, asked time.Time) {
	if exists {
		c.known.Add(id, remembered{identity: identity, asked: asked})
		c.unknown.Remove(id)
		return
	}
	c.known.Remove(id)
	c.unknown.Add(id, asked)
}
