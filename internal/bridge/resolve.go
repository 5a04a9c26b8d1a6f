package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	sessionKeyPrefix = "daemon:session:"
	lookupTimeout    = 3 * time.Second
	// maxKnownDaemons bounds the cache: about 3 MB.
	maxKnownDaemons = 10_000
	// knownDaemonFor: a daemon id stays with its orchestrator; the limit is only
	// there so that a mistake in Redis does not stay with us.
	knownDaemonFor = 10 * time.Minute
)

// errNoSession means that Redis answered, and does not know the daemon.
var errNoSession = errors.New("no usable session of this daemon in Redis")

// lookupSession asks Redis whose daemon this is. errNoSession is final; any
// other error may pass.
func lookupSession(ctx context.Context, client redis.Cmdable, id protocol.DaemonID) (protocol.OrchestratorID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	text, err := client.Get(ctx, sessionKeyPrefix+string(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return "", errNoSession
	}
	if err != nil {
		return "", fmt.Errorf("read the session from Redis: %w", err)
	}
	var session struct {
		OrchestratorID protocol.OrchestratorID `json:"orchestratorId"`
	}
	if json.Unmarshal(text, &session) != nil || session.OrchestratorID.Validate() != nil {
		return "", errNoSession
	}
	return session.OrchestratorID, nil
}

// daemonCache remembers whose a daemon is. It is not safe for concurrent use.
type daemonCache struct {
	known map[protocol.DaemonID]knownDaemon
}

type knownDaemon struct {
	orchestrator protocol.OrchestratorID
	until        time.Time
}

func (c *daemonCache) get(id protocol.DaemonID, now time.Time) (protocol.OrchestratorID, bool) {
	k, ok := c.known[id]
	if !ok || now.After(k.until) {
		return "", false
	}
	return k.orchestrator, true
}

// put starts over when the cache is full: asking again is cheap, and rare with
// as many daemons as the bound allows.
func (c *daemonCache) put(id protocol.DaemonID, orchestrator protocol.OrchestratorID, now time.Time) {
	if c.known == nil || len(c.known) >= maxKnownDaemons {
		c.known = make(map[protocol.DaemonID]knownDaemon)
	}
	c.known[id] = knownDaemon{orchestrator: orchestrator, until: now.Add(knownDaemonFor)}
}
