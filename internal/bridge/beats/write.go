package beats

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	keptMetrics    = 100
	metricsExpires = 24 * time.Hour
	// routeMargin keeps a daemon connected for Neolith's message router until its
	// next heartbeat is written, however late that comes.
	routeMargin = 30 * time.Second
)

// writeBatch writes a batch, in order, and takes out of the queue what is
// settled. An error says why the rest is to be tried again later; it is put
// behind what has not been tried.
func (w *Writer) writeBatch(ctx context.Context, batch []*entry) (settled int, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.batchTimeout)
	defer cancel()
	wanted, settled, err := w.stillWanted(ctx, batch)
	if len(wanted) == 0 {
		return settled, err
	}
	sessions := w.readSessions(ctx, wanted)
	now := time.Now()
	pipe := w.redis.Pipeline()
	commands := make([][]redis.Cmder, len(wanted))
	for i, e := range wanted {
		e.Value.tried = true
		commands[i] = e.Value.write(ctx, pipe, now)
		e.Value.moveOn(ctx, pipe, sessions[i])
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, e := range wanted {
		if passed := w.settle(e, commands[i]); passed != nil {
			err = passed
			w.waiting.Requeue(e)
			continue
		}
		settled++
	}
	return settled, err
}

// write queues the commands of one heartbeat. In a Cluster they go to several
// nodes, so they are no transaction.
func (b *beat) write(ctx context.Context, pipe redis.Pipeliner, now time.Time) []redis.Cmder {
	connectedFor := max(time.Second, b.left(now)+routeMargin).Round(time.Second)
	commands := []redis.Cmder{pipe.Set(ctx, b.routeKey(), b.route, connectedFor)}
	b.showPresence(ctx, pipe, connectedFor)
	if b.opened {
		return commands
	}
	commands = append(commands, pipe.Set(ctx, b.key(), b.record, max(time.Second, b.left(now)).Round(time.Second)))
	if b.metrics != nil {
		commands = append(commands,
			pipe.LPush(ctx, b.list(), b.metrics),
			pipe.LTrim(ctx, b.list(), 0, keptMetrics-1),
			pipe.Expire(ctx, b.list(), metricsExpires))
	}
	if b.organization != "" {
		commands = append(commands, pipe.Publish(ctx, b.channel(), b.notice))
	}
	return commands
}

// showPresence queues what Neolith's presence service has of an orchestrator that
// is connected, busy or not: where it has one, its message router asks that. Where
// it has none, Redis may forbid these keys, and nobody misses them.
func (b *beat) showPresence(ctx context.Context, pipe redis.Pipeliner, lifetime time.Duration) {
	pipe.HSet(ctx, b.presenceKey(), "vpId", string(b.orchestrator), "status", "ONLINE", "lastHeartbeat", b.received)
	pipe.Set(ctx, b.presenceAliveKey(), "1", lifetime)
}

// settle decides what becomes of a heartbeat. An error says that it stays.
func (w *Writer) settle(e *entry, commands []redis.Cmder) error {
	var failure error
	for _, c := range commands {
		if err := c.Err(); err != nil {
			if passing(err) {
				return err
			}
			failure = err
		}
	}
	w.waiting.Remove(e)
	if failure != nil {
		w.metrics.count(refused, 1)
		w.complain("Redis refuses a heartbeat", failure)
		return nil
	}
	w.metrics.count(written, 1)
	return nil
}

// stillWanted returns the batch without what has been tried before and is not
// newer than what Redis holds: it was written although no answer came, or
// another bridge has written a newer one meanwhile. That is settled. What
// cannot be looked up is left for later as well.
func (w *Writer) stillWanted(ctx context.Context, batch []*entry) (wanted []*entry, settled int, later error) {
	pipe := w.redis.Pipeline()
	held := make([]*redis.StringCmd, len(batch))
	for i, e := range batch {
		if e.Value.tried && !e.Value.opened {
			held[i] = pipe.Get(ctx, e.Value.key())
		}
	}
	if pipe.Len() == 0 {
		return batch, 0, nil
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, e := range batch {
		text, err := []byte(nil), error(redis.Nil)
		if held[i] != nil {
			text, err = held[i].Bytes()
		}
		switch {
		case err == nil && e.Value.supersededBy(text):
			w.waiting.Remove(e)
			w.metrics.count(superseded, 1)
			settled++
		case err != nil && passing(err):
			w.waiting.Requeue(e)
			later = err
		default:
			wanted = append(wanted, e)
		}
	}
	return wanted, settled, later
}

// passingReplies are how Redis says that it cannot do now what it may do later:
// it is full, a replica, loading, without its majority or its disk, or busy.
var passingReplies = []string{
	"OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE",
	"max number of clients reached",
}

// passing reports whether trying again may help. Redis's other answers are
// about the key or about what this user may do.
func passing(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	for _, prefix := range passingReplies {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
