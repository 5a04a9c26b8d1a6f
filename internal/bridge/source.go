package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/outage"
)

// timing is how patient the source is; a struct so that tests need not be.
type timing struct {
	look    time.Duration // between two looks at what has been heard
	recheck int           // looks until it is tried again what Redis forbade
	ping    int           // looks between two pings
	dead    int           // looks that have heard nothing: the connection is dead
	silent  time.Duration // connected but without a message: worth a word
	retry   backoff       // between two attempts to connect
	echo    time.Duration // between two echoes
	echoes  int           // that do not come: the subscription leads elsewhere
}

// Once everything is to end, the answer to unsubscribe is waited for until
// lastLooks looks in a row have heard nothing.
const (
	lastLook  = 100 * time.Millisecond
	lastLooks = 10
)

var defaultTiming = timing{
	look:    time.Second,
	recheck: 60,
	ping:    5,
	dead:    12,
	silent:  5 * time.Minute,
	// What is published between the return of Redis and the next attempt is lost.
	retry:  backoff{first: 100 * time.Millisecond, most: time.Second},
	echo:   5 * time.Second,
	echoes: 3,
}

// healthyAfter: after a subscription that lasted this long the backoff begins
// again.
const healthyAfter = 10 * time.Second

// backoff is a delay that doubles, with jitter.
type backoff struct{ first, most time.Duration }

// delay returns what to wait after the n-th failure in a row, from 1.
func (b backoff) delay(n int) time.Duration {
	d := b.most
	if n < 16 {
		d = min(b.first<<(n-1), b.most)
	}
	return d/2 + rand.N(d/2+1)
}

// source hears Redis. Its receive loop only hands messages on and never waits
// for anything else: go-redis's own channel would lose messages after a minute
// of a full buffer, and hides that it has subscribed again.
type source struct {
	client   redis.UniversalClient
	channels []string
	patterns []string
	canary   string // the channel of this bridge's canaries
	timing   timing
	echo     *echo
	server   string // where Redis is, in words
	outage   *outage.Outage
	push     func(heard)
	link     *link
	metrics  *metrics
	logger   *slog.Logger

	// forbidden are those that Redis does not allow, and that are left out. Written
	// by Run and the watch that it waits for.
	forbidden atomic.Pointer[subscriptions]

	// Owned by the receive loop.
	confirmed bool   // every subscription is, on this connection
	unsaid    bool   // and it has not been said yet
	complaint string // what pings are answered with where it is no pong
}

// noMaster is how a replica says that it has lost its master, where it is told not
// to serve without one.
const noMaster = "MASTERDOWN"

// errDead is why a connection that no longer answers pings is given up.
var errDead = errors.New("no answer to pings")

// Run hears Redis until ctx ends; then it unsubscribes and hands on what was
// on its way. It returns nil.
func (s *source) Run(ctx context.Context) error {
	for failures := 1; ctx.Err() == nil; failures++ {
		lasted, err := s.listen(ctx)
		if ctx.Err() != nil {
			break
		}
		if lasted >= healthyAfter {
			failures = 1
		}
		s.refused(ctx, err)
		delay := s.timing.retry.delay(failures)
		s.outage.Failed(s.server, reason(err), delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	s.link.down(time.Now(), false, s.link.state().answers, "stopped")
	return nil
}

// refused finds out which names Redis forbids, so that the next attempt leaves
// them out. Where nothing else would be heard it does not: then there is no
// subscription, and all are tried again.
func (s *source) refused(ctx context.Context, err error) {
	if !redis.HasErrorPrefix(err, "NOPERM") {
		return
	}
	s.forbidden.Store(nil)
	forbidden, err := s.all().forbidden(ctx, s.client)
	if err != nil || s.events().without(forbidden).len() == 0 {
		return
	}
	s.forbidden.Store(&forbidden)
}

// events are the channels and patterns of Neolith's events.
func (s *source) events() subscriptions { return subscriptions{s.channels, s.patterns} }

// all are these, and the canary's.
func (s *source) all() subscriptions {
	return subscriptions{append(slices.Clone(s.channels), s.canary), s.patterns}
}

// denied are the names that Redis forbids.
func (s *source) denied() (d subscriptions) {
	if p := s.forbidden.Load(); p != nil {
		d = *p
	}
	return d
}

// wanted are the names to be subscribed to.
func (s *source) wanted() subscriptions { return s.all().without(s.denied()) }

// mute reports whether Redis forbids the canary's channel.
func (s *source) mute() bool { return slices.Contains(s.denied().channels, s.canary) }

// recheck subscribes to what Redis has come to allow.
func (s *source) recheck(ctx context.Context, sub *redis.PubSub) {
	denied := s.denied()
	if denied.len() == 0 {
		return
	}
	still, err := denied.forbidden(ctx, s.client)
	if err != nil || still.len() == denied.len() {
		return
	}
	// The confirmation of the last one is recognized by their number.
	s.forbidden.Store(&still)
	_ = denied.without(still).subscribe(ctx, sub) // a failure is noticed by the receive loop
}

// listen subscribes and receives until that fails or ctx ends. It returns how
// long the subscription had lasted.
func (s *source) listen(ctx context.Context) (lasted time.Duration, err error) {
	// hard outlives ctx by the grace, so that it can end gracefully.
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	sub := s.client.Subscribe(hard)
	s.link.dialing()
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(ctx, hard, cancel, sub) })
	watching.Go(func() { s.tryEchoes(hard, cancel, sub) })
	defer func() {
		cancel(nil)
		watching.Wait()
		_ = sub.Close() // fails only if the watch has closed it
	}()
	if err := s.wanted().subscribe(hard, sub); err != nil {
		return s.fail(err), fmt.Errorf("subscribe: %w", err)
	}
	s.link.dialed(time.Now())
	return s.receive(hard, sub)
}

func (s *source) receive(hard context.Context, sub *redis.PubSub) (lasted time.Duration, err error) {
	for {
		message, err := sub.Receive(hard)
		if s.confirmed && isReply(err) && !redis.HasErrorPrefix(err, noMaster) {
			s.complains(err.Error())
			continue
		}
		if err != nil {
			if cause := context.Cause(hard); cause != nil {
				err = cause
			}
			lasted := s.fail(err)
			// go-redis has already subscribed on another connection, or says at
			// once that it could not. What comes there is not to be thrown away.
			if lasted > 0 && hard.Err() == nil && !isReply(err) {
				s.logger.Warn("lost the connection to Redis", "error", err)
				continue
			}
			return lasted, err
		}
		if s.handle(hard, sub, message) {
			return 0, nil
		}
	}
}

// handle takes what Redis sent; true when the last subscription has been ended.
func (s *source) handle(ctx context.Context, sub *redis.PubSub, message any) (ended bool) {
	now := time.Now()
	switch m := message.(type) {
	case *redis.Message:
		s.take(m, now)
	case *redis.Subscription:
		s.link.heard(now, false)
		switch m.Kind {
		case "subscribe", "psubscribe":
			if m.Count == s.wanted().len() {
				// A server confirms whatever state it is in; what it can do, a ping tells.
				s.confirmed, s.unsaid = true, true
				_ = sub.Ping(ctx) // a failure is noticed by the receive loop
			}
		default:
			return m.Count == 0
		}
	default: // a pong
		s.complains("")
	}
	return false
}

// complains takes the answer to a ping: an error or, as "", a pong. A server that
// loads its data, or cannot write them to its disk, answers most commands with an
// error, and passes on all the same what is published on it: to subscribe anew would
// only miss some of that.
func (s *source) complains(problem string) {
	now := time.Now()
	s.link.answered(now, problem)
	if s.unsaid {
		s.unsaid = false
		s.subscribed(now)
	}
	switch {
	case problem == s.complaint:
	case problem != "":
		s.logger.Warn("Redis answers pings with an error; what is published there is heard, all else waits for it", "error", problem)
	default:
		s.logger.Info("Redis answers pings again")
	}
	s.complaint = problem
}

func (s *source) take(m *redis.Message, now time.Time) {
	h := heard{channel: m.Channel, body: []byte(m.Payload)}
	if isHeartbeats(m.Channel) {
		s.link.heard(now, false)
		return // of an organization whose name ends in ":events", or is "events"
	}
	if !canary.IsChannel(m.Channel) {
		s.link.heard(now, true)
		s.metrics.received.Inc()
		s.push(h)
		return
	}
	s.link.heard(now, false)
	if m.Channel != s.canary || m.Pattern != "" {
		return // a wide pattern brings other bridges' canaries, and ours once more
	}
	if s.echo.take(h.body) {
		return
	}
	if _, err := canary.ReadEvent(h.body); err != nil {
		s.metrics.canary(err)
		return
	}
	s.push(h)
}

// subscribed notes that all subscriptions are confirmed, by a server that can do its
// part. Every time but the first there was a gap: Redis keeps nothing for those who
// are not there.
func (s *source) subscribed(now time.Time) {
	denied := s.denied()
	if denied.len() > 0 {
		s.logger.Error("Redis forbids this bridge some channels or patterns; going on without them", "forbidden", denied.String())
	}
	s.link.without(denied.without(subscriptions{channels: []string{s.canary}}))
	s.outage.Over()
	if again := s.link.up(now); again {
		s.metrics.gaps.Inc()
		s.logger.Warn("subscribed on Redis again; what was published meanwhile may be lost",
			"channels", s.channels, "patterns", s.patterns)
		return
	}
	s.logger.Info("subscribed on Redis", "channels", s.channels, "patterns", s.patterns)
}

func (s *source) fail(err error) (lasted time.Duration) {
	s.confirmed, s.unsaid, s.complaint = false, false, ""
	return s.link.down(time.Now(), errors.Is(err, errDead), isReply(err), s.server+": "+reason(err))
}

// reason says in words why there is no subscription.
func reason(err error) string {
	for _, code := range []string{"NOAUTH", "WRONGPASS", "NOPERM"} { // the library wraps some of them
		if strings.Contains(err.Error(), code+" ") {
			return "authorization: it says " + err.Error()
		}
	}
	return outage.Reason(err)
}

// isReply tells a refusal by Redis from a failure to reach it.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// watch pings, closes a connection that is dead, and ends the subscription when
// ctx ends. It returns when hard has ended.
func (s *source) watch(ctx, hard context.Context, cancel context.CancelCauseFunc, sub *redis.PubSub) {
	quiet := silence{link: s.link}
	for looks := 1; ; looks++ {
		select {
		case <-hard.Done():
			return
		case <-ctx.Done():
			s.unsubscribe(hard, cancel, sub)
			return
		case <-time.After(s.timing.look):
		}
		if quiet.look() >= s.timing.dead {
			cancel(errDead)
			_ = sub.Close()
			return
		}
		if s.link.silent(time.Now(), s.timing.silent) {
			s.logger.Warn("subscribed on Redis, but nothing is published there; check REDIS_CHANNELS and REDIS_PATTERNS",
				"for", s.timing.silent, "channels", s.channels, "patterns", s.patterns)
		}
		if looks%s.timing.recheck == 0 {
			s.recheck(hard, sub)
		}
		if looks%s.timing.ping == 0 {
			// A failed ping is noticed by the receive loop.
			_ = sub.Ping(hard)
		}
	}
}

// unsubscribe ends the subscription and leaves the receive loop the time to
// take what is on its way: Redis confirms after the last message.
func (s *source) unsubscribe(hard context.Context, cancel context.CancelCauseFunc, sub *redis.PubSub) {
	if s.link.state().connected {
		_ = sub.Unsubscribe(hard)
		if len(s.patterns) > 0 {
			_ = sub.PUnsubscribe(hard)
		}
		for quiet := (silence{link: s.link}); quiet.look() < lastLooks; {
			if !lifecycle.Sleep(hard, lastLook) {
				return // the receive loop has seen the confirmation
			}
		}
	}
	cancel(context.Canceled)
	_ = sub.Close()
}
