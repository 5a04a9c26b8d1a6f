package bridge

import (
	"context"
	"fmt"
	"log/slog"
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
	// listScan is how many keys Redis looks at in one step, in which it serves
	// nobody else.
	listScan = 500
	// listsAtOnce are drained side by side, each in its own order.
	listsAtOnce = 8
	// listBatch and listBatches bound what is taken from one list in one pass,
	// twice what Neolith keeps in it.
	listBatch   = 50
	listBatches = 40
)

// drainer takes the events that wait in Neolith's lists into the log, the oldest
// of each list first. An element leaves its list only when the log has it, and
// leaves it by its value: what Neolith pushes or trims meanwhile, and what
// another bridge has taken, is not touched. So a crash in between costs a
// publish that the log recognizes, and two bridges may drain the same list.
type drainer struct {
	redis    redis.UniversalClient
	store    func(ctx context.Context, name string, element []byte) (outcome, error)
	interval time.Duration
	metrics  *metrics
	logger   *slog.Logger
	faults   rate.Sometimes

	mu sync.Mutex
	// owed: elements in the log that could not be taken off their list. They go
	// before anything else: published again later, they might be stored again.
	owed map[string]string
}

func newDrainer(client redis.UniversalClient, p *pump, interval time.Duration, m *metrics, logger *slog.Logger) *drainer {
	return &drainer{
		redis: client, store: p.takeListed, interval: interval, metrics: m, logger: logger,
		faults: rate.Sometimes{First: 1, Interval: 10 * time.Minute}, owed: map[string]string{},
	}
}

// Run drains at once and from then on at intervals, until ctx ends.
func (d *drainer) Run(ctx context.Context) error {
	pause := backoff{first: d.interval, most: d.interval} // for its jitter
	for {
		if err := d.pass(ctx); err != nil && ctx.Err() == nil {
			d.faults.Do(func() { d.logger.Warn("legacy lists not drained, trying again later", "error", err) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause.delay(1)):
		}
	}
}

// pass drains all lists that there are. It stops at the first failure: what is
// left stays where it is.
func (d *drainer) pass(ctx context.Context) error {
	if err := d.settleOwed(ctx); err != nil {
		return err
	}
	if cluster, ok := d.redis.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return d.scan(ctx, node) })
	}
	return d.scan(ctx, d.redis)
}

// scan drains the lists of one server, a step of SCAN at a time.
func (d *drainer) scan(ctx context.Context, node redis.Cmdable) error {
	for cursor := uint64(0); ; {
		lists, next, err := node.ScanType(ctx, cursor, listPrefix+"*", listScan, "list").Result()
		if err != nil {
			return fmt.Errorf("look for legacy lists: %w", err)
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(listsAtOnce)
		for _, list := range lists {
			group.Go(func() error { return d.drain(ctx, list) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// drain empties one list. Neolith pushes at its head; its tail is the oldest.
func (d *drainer) drain(ctx context.Context, list string) error {
	for range listBatches {
		oldest, err := d.redis.LRange(ctx, list, -listBatch, -1).Result()
		if err != nil {
			return fmt.Errorf("read list %q: %w", list, err)
		}
		for i := len(oldest) - 1; i >= 0; i-- {
			if err := d.move(ctx, list, oldest[i]); err != nil {
				return fmt.Errorf("drain list %q: %w", list, err)
			}
		}
		if len(oldest) < listBatch {
			return nil
		}
	}
	return nil
}

// move brings one element into the log, or the dead letters, and then off its
// list, even if ctx ends between the two.
func (d *drainer) move(ctx context.Context, list, element string) error {
	outcome, err := d.store(ctx, strings.TrimPrefix(list, listPrefix), []byte(element))
	if err != nil {
		return err
	}
	d.metrics.drained.Of(outcome).Inc()
	d.mu.Lock()
	d.owed[list] = element
	d.mu.Unlock()
	return d.takeOff(context.WithoutCancel(ctx), list, element)
}

// takeOff removes the oldest element of this value, if it is still there.
func (d *drainer) takeOff(ctx context.Context, list, element string) error {
	ctx, cancel := context.WithTimeout(ctx, redisconn.IOTimeout)
	defer cancel()
	if err := d.redis.LRem(ctx, list, -1, element).Err(); err != nil {
		return fmt.Errorf("remove an element that is in the log: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.owed, list)
	return nil
}

// settleOwed takes off what an earlier pass could not. It bounds owed, too: one
// for each list that was being drained when a pass failed.
func (d *drainer) settleOwed(ctx context.Context) error {
	for list, element := range d.owed { // nobody else is at work between passes
		if err := d.takeOff(ctx, list, element); err != nil {
			return fmt.Errorf("list %q: %w", list, err)
		}
	}
	return nil
}
