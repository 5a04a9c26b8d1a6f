package beats

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// setIfUnchanged replaces a value that is still what was read: between the two
// Neolith may have written another, and what it wrote counts.
const setIfUnchanged = `if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('set', KEYS[1], ARGV[2], 'keepttl') end return 1`

// sessionKey is where Neolith's login route keeps the session of a daemon.
func (b *beat) sessionKey() string { return "daemon:session:" + string(b.daemon) }

// readSessions asks for the sessions of a batch. A session that cannot be read is
// left as it is: it costs Neolith a time of last activity and nothing else.
func (w *Writer) readSessions(ctx context.Context, batch []*entry) []string {
	pipe := w.redis.Pipeline()
	held := make([]*redis.StringCmd, len(batch))
	for i, e := range batch {
		held[i] = pipe.Get(ctx, e.Value.sessionKey())
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	texts := make([]string, len(batch))
	for i := range batch {
		texts[i] = held[i].Val()
	}
	return texts
}

// moveOn queues that the session's lastHeartbeat is this one. It is nobody's
// loss if that fails.
func (b *beat) moveOn(ctx context.Context, pipe redis.Pipeliner, session string) {
	if moved, ok := movedOn(session, b.orchestrator, b.receivedAt); ok {
		pipe.Eval(ctx, setIfUnchanged, []string{b.sessionKey()}, session, moved)
	}
}

// movedOn returns a session with another lastHeartbeat, in the form that it has
// there. It is not touched if it is another orchestrator's, or newer.
func movedOn(session string, orchestrator protocol.OrchestratorID, at time.Time) (moved string, ok bool) {
	var fields map[string]json.RawMessage
	if session == "" || json.Unmarshal([]byte(session), &fields) != nil || fields == nil {
		return "", false
	}
	var owner protocol.OrchestratorID
	if json.Unmarshal(fields["orchestratorId"], &owner) != nil || owner != orchestrator {
		return "", false
	}
	var value any = at.UTC().Format(timeFormat)
	var milliseconds float64
	if held, there := fields["lastHeartbeat"]; there && json.Unmarshal(held, &milliseconds) == nil && string(held) != "null" {
		if milliseconds >= float64(at.UnixMilli()) {
			return "", false
		}
		value = at.UnixMilli()
	} else if text := ""; json.Unmarshal(held, &text) == nil && text >= value.(string) {
		return "", false
	}
	var err error
	if fields["lastHeartbeat"], err = json.Marshal(value); err != nil {
		return "", false
	}
	text, err := json.Marshal(fields)
	return string(text), err == nil
}
