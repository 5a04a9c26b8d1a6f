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
	// maxSessions of a daemon are looked at.
	maxSessions = 20
	// maxKnownDaemons bounds the cache: about 3 MB.
	maxKnownDaemons = 10_000
	// knownDaemonFor: a daemon id stays with its orchestrator; the limit is only
	// there so that a mistake in Redis does not stay with us.
	knownDaemonFor = 10 * time.Minute
)

// errNoSession means that Redis answered, and does not know the daemon.
var errNoSession = errors.New("no usable session of this daemon in Redis")

// lookupSession asks Redis whose daemon this is. Neolith's login route keeps its
// session under the daemon's id; its auth service keeps sessions under ids of their
// own, and an index of them for each daemon. errNoSession is final; any other error
// may pass.
func lookupSession(ctx context.Context, client redis.Cmdable, id protocol.DaemonID) (protocol.OrchestratorID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	owner, err := readSession(ctx, client, string(id), id)
	if !errors.Is(err, errNoSession) {
		return owner, err
	}
	sessions, err := sessionsOf(ctx, client, id)
	if err != nil {
		return "", err
	}
	for _, name := range sessions[:min(len(sessions), maxSessions)] {
		found, err := readSession(ctx, client, name, id)
		switch {
		case errors.Is(err, errNoSession): // it has expired
		case err != nil:
			return "", err
		case owner != "" && owner != found:
			return "", errNoSession // they contradict one another
		default:
			owner = found
		}
	}
	if owner == "" {
		return "", errNoSession
	}
	return owner, nil
}

// readSession reads one session, which may say whose daemon it is of.
func readSession(ctx context.Context, client redis.Cmdable, name string, id protocol.DaemonID) (protocol.OrchestratorID, error) {
	text, err := client.Get(ctx, sessionKeyPrefix+name).Bytes()
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return "", errNoSession
	}
	if err != nil {
		return "", fmt.Errorf("read the session from Redis: %w", err)
	}
	if owner, ok := ownerIn(text, id); ok {
		return owner, nil
	}
	return "", errNoSession
}

// ownerIn returns whose daemon a session says it is of.
func ownerIn(text []byte, id protocol.DaemonID) (owner protocol.OrchestratorID, ok bool) {
	var session struct {
		OrchestratorID protocol.OrchestratorID `json:"orchestratorId"`
		DaemonID       protocol.DaemonID       `json:"daemonId"`
	}
	if json.Unmarshal(text, &session) != nil || session.OrchestratorID.Validate() != nil || session.DaemonID != "" && session.DaemonID != id {
		return "", false
	}
	return session.OrchestratorID, true
}

// sessionsOf reads the index of a daemon's sessions: a set, or a list. A user who
// may not read it knows of none.
func sessionsOf(ctx context.Context, client redis.Cmdable, id protocol.DaemonID) ([]string, error) {
	key := "daemon:instance:" + string(id) + ":sessions"
	sessions, err := client.SMembers(ctx, key).Result()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		sessions, err = client.LRange(ctx, key, 0, maxSessions-1).Result()
	}
	if redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the index of sessions from Redis: %w", err)
	}
	return sessions, nil
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
