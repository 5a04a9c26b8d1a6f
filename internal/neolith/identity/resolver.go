package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// maxWaiting bounds the ids that wait for an answer, at about 20 MB; for more
// PostgreSQL counts as unavailable.
const maxWaiting = 100_000

// Resolver answers from its cache, and asks PostgreSQL for what is not there.
// Its methods may be called at the same time; Run once at most.
type Resolver struct {
	timeout time.Duration // of a query
	db      *postgres.DB
	logger  *slog.Logger
	metrics *metrics
	wake    chan struct{} // holds one token when the queue is not empty

	mu      sync.Mutex
	cache   *cache
	breaker breaker
	waiting map[protocol.OrchestratorID]*lookup // queued or being asked
	queue   []*lookup
	stopped bool
}

// lookup is the one question about an id that all who want to know wait for.
type lookup struct {
	id     protocol.OrchestratorID
	done   chan struct{} // closed when the answer is there
	answer Answer        // an Err that is not ErrUnknown: nobody could be asked
}

// New returns a resolver that asks nothing before Run. An error means a mistake
// in the configuration.
func New(cfg Config, db *postgres.DB, logger *slog.Logger, reg prometheus.Registerer) (*Resolver, error) {
	cache, err := newCache(cfg)
	if err != nil {
		return nil, fmt.Errorf("cache of identities: %w", err)
	}
	r := &Resolver{
		timeout: cmp.Or(cfg.QueryTimeout, queryTimeout),
		db:      db,
		logger:  logger.With("component", "identity"),
		wake:    make(chan struct{}, 1),
		cache:   cache,
		waiting: make(map[protocol.OrchestratorID]*lookup),
	}
	r.metrics = newMetrics(reg, r.remembered)
	return r, nil
}

// Cached returns an identity if it is remembered and not too old. It never
// waits.
func (r *Resolver) Cached(id protocol.OrchestratorID) (Identity, bool) {
	answer, ok := r.fresh(id)
	return answer.Identity, ok && answer.Err == nil
}

// Resolve returns the orchestrator that id means, its own id or its user id, or
// an error that is ErrUnknown or ErrUnavailable. It waits for PostgreSQL for a
// few seconds at most, and not at all while PostgreSQL is known to be away: an
// answer up to a day old is then as good.
func (r *Resolver) Resolve(ctx context.Context, id protocol.OrchestratorID) (Identity, error) {
	answer, ok := r.fresh(id)
	if !ok {
		answer = r.ResolveMany(ctx, []protocol.OrchestratorID{id})[id]
	}
	return answer.Identity, answer.Err
}

// ResolveMany is Resolve for several ids, of which those not remembered are
// asked for together. It has an answer for each.
func (r *Resolver) ResolveMany(ctx context.Context, ids []protocol.OrchestratorID) map[protocol.OrchestratorID]Answer {
	answers := make(map[protocol.OrchestratorID]Answer, len(ids))
	var missing []protocol.OrchestratorID
	for _, id := range ids {
		answer, ok := r.fresh(id)
		if !ok {
			missing = append(missing, id)
			continue
		}
		answers[id] = answer
	}
	if len(missing) == 0 {
		return answers
	}
	lookups, err := r.ask(missing)
	if err != nil {
		for _, id := range missing {
			answers[id] = r.withoutAsking(id, err)
		}
		return answers
	}
	// A query that is under way, and their own.
	ctx, cancel := context.WithTimeout(ctx, 2*r.timeout+time.Second)
	defer cancel()
	for _, l := range lookups {
		answers[l.id] = r.await(ctx, l)
	}
	return answers
}

// fresh answers what needs no asking.
func (r *Resolver) fresh(id protocol.OrchestratorID) (Answer, bool) {
	now := time.Now()
	r.mu.Lock()
	answer, ok := r.cache.fresh(id, now)
	r.mu.Unlock()
	switch {
	case ok && answer.Err == nil:
		r.metrics.count(hit)
	case ok:
		r.metrics.count(negative)
	case !plausible(id):
		r.metrics.count(negative)
		return Answer{Err: ErrUnknown}, true
	}
	return answer, ok
}

var (
	errStopped = errors.New("the node stops")
	errCrowded = errors.New("too many lookups are waiting")
)

// ask puts ids into the queue, or joins the lookups that are there already. All
// or none: an error means that nobody can be asked now.
func (r *Resolver) ask(ids []protocol.OrchestratorID) ([]*lookup, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil, errStopped
	}
	if len(r.waiting)+len(ids) > maxWaiting {
		return nil, errCrowded
	}
	now := time.Now()
	if err := r.breaker.admit(now); err != nil {
		return nil, err
	}
	lookups := make([]*lookup, len(ids))
	for i, id := range ids {
		lookups[i] = r.lookupLocked(id, now)
	}
	r.wakeLocked()
	return lookups, nil
}

// lookupLocked returns the lookup that is under way, or begins one; or one that
// has ended, if the answer came since the caller looked. mu is held.
func (r *Resolver) lookupLocked(id protocol.OrchestratorID, now time.Time) *lookup {
	if l := r.waiting[id]; l != nil {
		return l
	}
	l := &lookup{id: id, done: make(chan struct{})}
	if answer, ok := r.cache.fresh(id, now); ok {
		l.answer = answer
		close(l.done)
		return l
	}
	r.waiting[id] = l
	r.queue = append(r.queue, l)
	return l
}

// wakeLocked lets a worker know of the queue. mu is held.
func (r *Resolver) wakeLocked() {
	if len(r.queue) == 0 {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Resolver) await(ctx context.Context, l *lookup) Answer {
	select {
	case <-l.done:
	case <-ctx.Done():
		return r.withoutAsking(l.id, context.Cause(ctx))
	}
	switch {
	case l.answer.Err == nil:
		r.metrics.count(found)
	case errors.Is(l.answer.Err, ErrUnknown):
		r.metrics.count(unknown)
	default:
		return r.withoutAsking(l.id, l.answer.Err)
	}
	return l.answer
}

// withoutAsking answers as well as can be done when nobody can be asked.
func (r *Resolver) withoutAsking(id protocol.OrchestratorID, cause error) Answer {
	r.mu.Lock()
	identity, ok := r.cache.stale(id, time.Now())
	r.mu.Unlock()
	if ok {
		r.metrics.count(stale)
		return Answer{Identity: identity}
	}
	r.metrics.count(unavailable)
	return Answer{Err: fmt.Errorf("%w: %w", ErrUnavailable, cause)}
}

// remembered returns the number of identities in the cache.
func (r *Resolver) remembered() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(r.cache.known.Len())
}
