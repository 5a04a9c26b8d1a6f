package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/internal/revocation"
)

const (
	// revokedKey is Neolith's set of what it has revoked.
	revokedKey = "daemon:tokens:revoked"
	// revokedInterval is how soon a new member counts; longer where the set is
	// large: see scanShare.
	revokedInterval = 2 * time.Second
	// revokedScan is how many members Redis returns in one step.
	revokedScan = 500
	// maxRevoked bounds the members that are taken over, each about 200 bytes here,
	// and on every edge.
	maxRevoked = 100_000
	// maxMemberBytes is far more than any jti has.
	maxMemberBytes = 1 << 10
)

// revoked takes what Neolith has revoked over into the bucket that the edges
// follow. Any number of bridges do so at once: an entry that is there, and stays
// for a while, is left alone.
//
// Neolith's set does not say when its members end. So each is renewed for as long
// as it is in the set, and outlives it by a lifetime: a Redis that has lost its
// data lets no one in who was revoked.
type revoked struct {
	redis    redis.UniversalClient
	js       jetstream.JetStream
	lifetime time.Duration
	metrics  *metrics
	logger   *slog.Logger
	problem  atomic.Pointer[string] // why the last pass failed; nil if it did not

	bucket jetstream.KeyValue
	list   *revocation.List // what stands in the bucket
	known  map[revocation.Key]written
}

// written is an entry of the bucket, and when it was written or found there.
type written struct{ until, seen time.Time }

// listLag is how much later than this bridge the list may know of an entry.
const listLag = 5 * time.Second

func newRevoked(client redis.UniversalClient, js jetstream.JetStream, lifetime time.Duration, m *metrics, logger *slog.Logger) *revoked {
	return &revoked{
		redis: client, js: js, lifetime: lifetime, metrics: m, logger: logger,
		list: revocation.NewList(js, func() {}, nil, logger), known: map[revocation.Key]written{},
	}
}

// Run takes over what has been revoked until ctx ends.
func (r *revoked) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { _ = r.list.Run(ctx) }) // it goes on until ctx ends
	for {
		began := time.Now()
		err := r.pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.tell(err)
		if !lifecycle.Sleep(ctx, max(revokedInterval, scanShare*time.Since(began))) {
			return nil
		}
	}
}

// tell notes how a pass went, and says so where that has changed.
func (r *revoked) tell(err error) {
	before := r.problem.Load()
	if err == nil {
		r.problem.Store(nil)
		r.metrics.revokedCurrent.Set(1)
		if before != nil {
			r.logger.Info("what Neolith has revoked is taken over again")
		}
		return
	}
	text := err.Error()
	r.problem.Store(&text)
	r.metrics.revokedCurrent.Set(0)
	if before == nil || *before != text {
		r.logger.Warn("what Neolith has revoked is not taken over, what was stays revoked", "error", err)
	}
}

// check tells /readyz. Events do not depend on it.
func (r *revoked) check() (ok bool, detail string) {
	if problem := r.problem.Load(); problem != nil {
		return false, *problem
	}
	return true, "read every " + revokedInterval.String()
}

// pass looks at the whole set.
func (r *revoked) pass(ctx context.Context) error {
	now := time.Now()
	maps.DeleteFunc(r.known, func(_ revocation.Key, w written) bool { return w.until.Before(now) })
	var failures error
	left := 0
	for cursor := uint64(0); ; {
		asking, cancel := context.WithTimeout(ctx, redisconn.IOTimeout)
		members, next, err := r.redis.SScan(asking, revokedKey, cursor, "", revokedScan).Result()
		cancel()
		if err != nil {
			return fmt.Errorf("read the set %s: %w", revokedKey, err)
		}
		for _, member := range members {
			taken, err := r.takeOver(ctx, member, now)
			if err != nil {
				failures = err
			} else if !taken {
				left++
			}
		}
		if cursor = next; cursor == 0 || failures != nil {
			break
		}
	}
	if failures == nil && left > 0 {
		failures = fmt.Errorf("%d members of the set %s are left out: empty, too long, or more than %d", left, revokedKey, maxRevoked)
	}
	return failures
}

// takeOver sees to it that a member is in the bucket for a while. It reports
// whether there is room for it.
func (r *revoked) takeOver(ctx context.Context, member string, now time.Time) (taken bool, err error) {
	key := revocation.KeyOfMember(member)
	if len(member) > maxMemberBytes || !key.Valid() {
		return false, nil
	}
	entry, known := r.known[key]
	if !known && len(r.known) >= maxRevoked {
		return false, nil
	}
	enough := now.Add(r.lifetime / 2)
	if entry.until.After(enough) && !r.lost(key, entry, now) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, redisconn.IOTimeout)
	defer cancel()
	if r.bucket == nil {
		if r.bucket, err = r.js.KeyValue(ctx, revocation.Bucket); err != nil {
			return false, fmt.Errorf("open bucket %s: %w", revocation.Bucket, err)
		}
	}
	until, err := r.standing(ctx, key)
	if err != nil {
		return false, err
	}
	if !until.After(enough) {
		until = now.Add(r.lifetime)
		entry := revocation.Entry{Until: until.UTC(), By: "Neolith", Reason: "in " + revokedKey}
		if _, err := r.bucket.Put(ctx, string(key), entry.Encode()); err != nil {
			return false, fmt.Errorf("write to bucket %s: %w", revocation.Bucket, err)
		}
		r.metrics.revoked.Inc()
	}
	r.known[key] = written{until, now}
	return true, nil
}

// lost reports whether the bucket has an entry no more, as far as is known: an
// operator may have taken it back, or the bucket was made anew.
func (r *revoked) lost(key revocation.Key, entry written, now time.Time) bool {
	current, _ := r.list.Check()
	return current && !r.list.Has(key) && now.Sub(entry.seen) > listLag
}

// standing returns until when the bucket has an entry; zero if it has none.
func (r *revoked) standing(ctx context.Context, key revocation.Key) (time.Time, error) {
	entry, err := r.bucket.Get(ctx, string(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read bucket %s: %w", revocation.Bucket, err)
	}
	return revocation.Decode(entry.Value(), entry.Created()).Until, nil
}
