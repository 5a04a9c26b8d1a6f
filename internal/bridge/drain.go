package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/redisconn"
)

const (
	listPrefix = "daemon:events:"
	// queuePrefix is where Neolith's message router keeps what it has for
	// orchestrators that it takes for away.
	queuePrefix = "routing:queue:"
	// listScan is how many keys Redis looks at in one step, in which it serves
	// nobody else.
	listScan = 500
	// listsAtOnce are drained side by side, each in its own order.
	listsAtOnce = 8
	// listBatch and listBatches bound what is taken from one list in one pass,
	// twice what Neolith keeps in it.
	listBatch   = 50
	listBatches = 40
	// A pass begins soon after the last one, so that an event that is only pushed
	// does not wait long, and later where looking for lists takes Redis long: one
	// part in scanShare of its time.
	drainSoonest = time.Second
	scanShare    = 20
)

// drainer takes the events that wait in Neolith's lists into the log, the oldest
// of each list first. An element leaves its list only when the log has it, and
// leaves it by its value: what Neolith pushes or trims meanwhile, and what
// another bridge has taken, is not touched. So a crash in between costs a
// publish that the log recognizes, and two bridges may drain the same list. What
// cannot be placed stays where it is.
type drainer struct {
	redis    redis.UniversalClient
	store    func(ctx context.Context, away silent, l list, element []byte) (outcome, string, error)
	interval time.Duration // at most
	metrics  *metrics
	logger   *slog.Logger
	faults   rate.Sometimes

	mu sync.Mutex
	// owed: elements in the log that could not be taken off their list. They go
	// before anything else: published again later, they might be stored again.
	owed map[list]string
	left map[list]passedOver // of the pass under way
	told map[list]passedOver // of the pass before
	away silent              // of the pass under way
	// refused says why the log has not taken what some list has, in this pass.
	refused error
}

// list is one of Neolith's, whose name says whose events it has.
type list struct {
	prefix string
	name   string // of a daemon or an orchestrator
	sorted bool   // it is a sorted set
}

func (l list) key() string { return l.prefix + l.name }

func (l list) redisType() string {
	if l.sorted {
		return "zset"
	}
	return "list"
}

// passedOver is what stays in a list.
type passedOver struct {
	elements int
	problem  string // of the oldest
}

func newDrainer(client redis.UniversalClient, p *pump, interval time.Duration, m *metrics, logger *slog.Logger) *drainer {
	return &drainer{
		redis: client, store: p.takeListed, interval: interval, metrics: m, logger: logger,
		faults: rate.Sometimes{First: 1, Interval: 10 * time.Minute}, owed: map[list]string{},
	}
}

// Run drains at once and from then on again and again, until ctx ends.
func (d *drainer) Run(ctx context.Context) error {
	for {
		began := time.Now()
		if err := d.pass(ctx); err != nil && ctx.Err() == nil {
			d.faults.Do(func() { d.logger.Warn("legacy lists not drained, trying again later", "error", err) })
		}
		wait := min(d.interval, max(drainSoonest, scanShare*time.Since(began)))
		pause := backoff{first: wait, most: wait} // for its jitter
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause.delay(1)):
		}
	}
}

// errNotStored ends the draining of one list: the log does not take its oldest
// element now. Others may belong to partitions that have room, or a leader.
var errNotStored = errors.New("not stored")

// pass drains all lists that there are. It stops where Redis fails: what is left
// stays where it is. Its error may also be that of a list which the log does not
// take.
func (d *drainer) pass(ctx context.Context) error {
	if err := d.settleOwed(ctx); err != nil {
		return err
	}
	d.left, d.refused, d.away = map[list]passedOver{}, nil, silent{}
	// What a Redis user of before may not do comes last.
	for _, kind := range []list{{prefix: listPrefix}, {prefix: listPrefix, sorted: true}, {prefix: queuePrefix}, {prefix: queuePrefix, sorted: true}} {
		if err := d.drainAll(ctx, kind); err != nil {
			return err
		}
	}
	d.tell()
	return d.refused
}

// drainAll drains the lists that are like one without a name.
func (d *drainer) drainAll(ctx context.Context, kind list) error {
	if cluster, ok := d.redis.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return d.scan(ctx, node, kind) })
	}
	return d.scan(ctx, d.redis, kind)
}

// tell says what has been passed over, once for each list until it changes.
func (d *drainer) tell() {
	elements := 0
	for l, p := range d.left {
		elements += p.elements
		if d.told[l] != p {
			d.logger.Warn("elements of a legacy list cannot be placed, and stay there", "list", l.key(), "elements", p.elements, "oldest", p.problem)
		}
	}
	d.told = d.left
	d.metrics.drainLeft.Set(float64(elements))
}

// scan drains the lists of one server, a step of SCAN at a time.
func (d *drainer) scan(ctx context.Context, node redis.Cmdable, kind list) error {
	for cursor := uint64(0); ; {
		keys, next, err := node.ScanType(ctx, cursor, kind.prefix+"*", listScan, kind.redisType()).Result()
		if err != nil {
			return fmt.Errorf("look for legacy lists: %w", err)
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(listsAtOnce)
		for _, key := range keys {
			l := kind
			l.name = strings.TrimPrefix(key, kind.prefix)
			group.Go(func() error { return d.drain(ctx, l) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// oldestFirst tells which lists have the oldest element at their head: Neolith
// pushes to the head of a list of events, and its router to the tail of its queue.
func (l list) oldestFirst() bool { return l.prefix == queuePrefix }

// oldest returns the oldest elements, oldest first, after so many.
func (d *drainer) oldest(ctx context.Context, l list, after int64) (elements []string, err error) {
	switch {
	case l.sorted:
		elements, err = d.redis.ZRange(ctx, l.key(), after, after+listBatch-1).Result()
	case l.oldestFirst():
		elements, err = d.redis.LRange(ctx, l.key(), after, after+listBatch-1).Result()
	default:
		elements, err = d.redis.LRange(ctx, l.key(), -after-listBatch, -after-1).Result()
		slices.Reverse(elements)
	}
	if err != nil && !replaced(err) {
		return nil, fmt.Errorf("read list %q: %w", l.key(), err)
	}
	return elements, nil
}

// drain empties one list, but for what cannot be placed.
func (d *drainer) drain(ctx context.Context, l list) error {
	stay := passedOver{}
	defer func() {
		if stay.elements > 0 {
			d.mu.Lock()
			d.left[l] = stay
			d.mu.Unlock()
		}
	}()
	for range listBatches {
		oldest, err := d.oldest(ctx, l, int64(stay.elements))
		if err != nil {
			return err
		}
		for _, element := range oldest {
			moved, problem, err := d.move(ctx, l, element)
			if err != nil {
				err = fmt.Errorf("drain list %q: %w", l.key(), err)
				if ctx.Err() == nil && errors.Is(err, errNotStored) {
					d.notStored(err)
					return nil
				}
				return err
			}
			if !moved {
				if stay.elements++; stay.elements == 1 {
					stay.problem = problem
				}
			}
		}
		if len(oldest) < listBatch {
			return nil
		}
	}
	return nil
}

func (d *drainer) notStored(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused == nil {
		d.refused = err
	}
}

// move brings one element into the log and then off its list, even if ctx ends
// between the two. An element that cannot be placed is not moved; problem says why.
func (d *drainer) move(ctx context.Context, l list, element string) (moved bool, problem string, err error) {
	outcome, problem, err := d.store(ctx, d.away, l, []byte(element))
	switch {
	case err != nil:
		return false, problem, fmt.Errorf("%w: %w", errNotStored, err)
	case outcome == outcomeRejected:
		return false, problem, nil
	}
	d.metrics.drained.Of(outcome).Inc()
	d.mu.Lock()
	d.owed[l] = element
	d.mu.Unlock()
	return true, "", d.takeOff(context.WithoutCancel(ctx), l, element)
}

// takeOff removes the oldest element of this value, if it is still there.
func (d *drainer) takeOff(ctx context.Context, l list, element string) error {
	ctx, cancel := context.WithTimeout(ctx, redisconn.IOTimeout)
	defer cancel()
	var err error
	switch {
	case l.sorted:
		err = d.redis.ZRem(ctx, l.key(), element).Err()
	case l.oldestFirst():
		err = d.redis.LRem(ctx, l.key(), 1, element).Err()
	default:
		err = d.redis.LRem(ctx, l.key(), -1, element).Err()
	}
	if err != nil && !replaced(err) {
		return fmt.Errorf("remove an element that is in the log: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.owed, l)
	return nil
}

// replaced tells that something else stands under the key of a list by now:
// nothing of the list is left, and other lists have nothing to do with it.
func replaced(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

// settleOwed takes off what an earlier pass could not. It bounds owed, too: one
// for each list that was being drained when a pass failed.
func (d *drainer) settleOwed(ctx context.Context) error {
	for l, element := range d.owed { // nobody else is at work between passes
		if err := d.takeOff(ctx, l, element); err != nil {
			return fmt.Errorf("list %q: %w", l.key(), err)
		}
	}
	return nil
}
