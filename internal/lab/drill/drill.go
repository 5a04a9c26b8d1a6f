// Package drill practises the recovery from disasters: with daemons and
// publishers on a cluster it takes backups with the commands that an operator
// uses, destroys what holds data, restores it, and judges what came of each
// event. It shows what was done, how long it took and what was lost.
package drill

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Scenario is what this package does.
func Scenario() lab.Scenario {
	return lab.Scenario{
		Name: "drill", What: "what a backup brings back after each disaster, and what that costs",
		Takes: "2 min", Page: "docs/disaster-recovery.md", New: scenario,
	}
}

// exercise is a disaster and the recovery from it.
type exercise struct {
	name, title string
	do          func(d *drill, ctx context.Context) error
}

// exercises come in an order in which each leaves a cluster to the next.
func exercises() []exercise {
	return []exercise{
		{"everything", "all of JetStream and PostgreSQL lost, restored from the backup", (*drill).everything},
		{"disk", "the disk of one of three NATS servers lost", (*drill).oneDisk},
		{"database", "PostgreSQL lost, restored from the backup", (*drill).databaseRestored},
		{"schema", "PostgreSQL lost, restored without the gateway's schema", (*drill).databaseWithoutSchema},
		{"nothing", "all of JetStream lost, and no backup", (*drill).nothingLeft},
	}
}

const (
	partitions = 8
	// window is DUPLICATE_WINDOW: shorter than the way from a backup to its
	// restoration, as with real disasters.
	window = 10 * time.Second
	// interval is the time between two events of an orchestrator.
	interval = 250 * time.Millisecond
)

const (
	// holding daemons acknowledge nothing until they are told to.
	holding = "holding"
	// sleeping ones leave before the backup and come back after the disaster.
	sleeping = "sleeping"
	// resuming ones say themselves where they stand.
	resuming = "resuming"
)

// habits are those of an exercise's daemons, each of an orchestrator of its own.
// Those of even number are published to on Redis, the others on JetStream.
var habits = []string{
	traffic.Steady, traffic.Steady, traffic.Steady, traffic.Steady, holding, holding,
	sleeping, sleeping, resuming, resuming, traffic.Steady, traffic.Steady,
}

// drill is a run.
type drill struct {
	*lab.World
	publish  time.Duration
	database *testserver.PostgresProcess
	chapters []*chapter
	count    atomic.Int64 // of events

	// Of the exercise that is done now.
	exercise  string
	withholds atomic.Bool // the holding daemons acknowledge nothing
}

func scenario(flags *flag.FlagSet) lab.Run {
	publish := flags.Duration("publish", 6*time.Second, "how long events are published before and after each backup")
	only := lab.Select(flags, "only", "exercises", exercises(), func(x exercise) (name, what string) { return x.name, x.title })
	return func(ctx context.Context, w *lab.World) (err error) {
		d := &drill{World: w, publish: *publish}
		if d.database, err = testserver.StartPostgres(); err != nil {
			return err
		}
		defer d.database.Remove()
		if err := d.open(ctx); err != nil {
			return err
		}
		for _, x := range only.Chosen() {
			if err := d.practise(ctx, x); err != nil {
				return errors.Join(fmt.Errorf("%s: %w", x.title, err), d.print(os.Stdout))
			}
		}
		return d.print(os.Stdout)
	}
}

func (d *drill) open(ctx context.Context) error {
	if err := errors.Join(d.buildTools(ctx), d.database.CreateNeolith(everybody()...)); err != nil {
		return err
	}
	return d.Open(ctx, cluster.Config{
		NATS: 3, Bridges: 2, Routers: 2, Edges: 3, Partitions: partitions,
		Settings: map[string]string{
			"DUPLICATE_WINDOW": window.String(), "DATABASE_URL": d.database.URL(), "PRESENCE_GRACE": "1s",
		},
	})
}

// practise does an exercise with daemons and publishers of its own.
func (d *drill) practise(ctx context.Context, x exercise) error {
	d.begin(x.title)
	if err := d.Anew(); err != nil {
		return err
	}
	d.exercise = x.name
	d.withholds.Store(true)
	for n, habit := range habits {
		d.add(orchestrator(x.name, n), habit)
	}
	if err := d.Enter(ctx, d.Crowd.Seats()...); err != nil {
		return err
	}
	d.startPublishing()
	return x.do(d, ctx)
}

func orchestrator(exercise string, n int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("vp_%s_%d", exercise, n))
}

// everybody is the orchestrators of all exercises, as Neolith has them.
func everybody() (all []testserver.Orchestrator) {
	for _, x := range exercises() {
		for n := range habits {
			id := string(orchestrator(x.name, n))
			all = append(all, testserver.Orchestrator{ID: id, User: "user_" + id})
		}
	}
	return all
}

func (d *drill) add(id protocol.OrchestratorID, name string) {
	var position atomic.Value
	position.Store("")
	seat := d.Crowd.Add(id, traffic.Habit{Name: name, Handle: func(_ context.Context, _ *traffic.Seat, e protocol.Event) error {
		position.Store(e.Position)
		if name == holding && d.withholds.Load() {
			return client.ErrNoAck
		}
		return nil
	}})
	if name == resuming {
		seat.Profile.Resume = func() string { return position.Load().(string) }
	}
}

// sleep has the sleeping daemons leave.
func (d *drill) sleep() { d.Crowd.Leave(d.Crowd.Seats(sleeping)...) }

// wake has them come back, and the holding ones acknowledge what they have got.
func (d *drill) wake(ctx context.Context) error {
	d.withholds.Store(false)
	seen := d.seen()
	for _, s := range d.Crowd.Seats(holding) {
		for id, x := range seen {
			if x.Seat == s.Profile.Seat && x.Acked.IsZero() {
				s.Ack(id)
			}
		}
	}
	return d.Enter(ctx, d.Crowd.Seats(sleeping)...)
}

// present are the orchestrators whose daemons are there.
func (d *drill) present() (ids []string) {
	for _, s := range d.Crowd.Seats() {
		if s.Daemon() != nil {
			ids = append(ids, string(s.Profile.Orchestrator))
		}
	}
	return ids
}

// startPublishing begins to publish, or goes on.
func (d *drill) startPublishing() {
	for n := range habits {
		d.Feed.Start(traffic.Author{
			Way: traffic.Way(n % 2), Every: interval, Delay: interval * time.Duration(n) / time.Duration(len(habits)),
			Next: func(time.Time) event.Event {
				number := d.count.Add(1)
				return traffic.Message(orchestrator(d.exercise, n), fmt.Sprintf("%s-%d", d.exercise, number), fmt.Appendf(nil, `{"n": %d}`, number))
			},
		})
	}
}

// stopPublishing has what has begun finished, and publishes again what was begun
// from a time on and nobody has.
func (d *drill) stopPublishing(ctx context.Context, from time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	err := d.Feed.Finish(ctx)
	for _, p := range d.Feed.Since(from) {
		if p.Taken.IsZero() {
			err = errors.Join(err, d.Feed.Publish(ctx, p.Way, p.Event))
		}
	}
	return err
}

// between returns what was published first in a span of time.
func (d *drill) between(from, to time.Time) []traffic.Publication {
	return slices.DeleteFunc(d.Feed.Since(from), func(p traffic.Publication) bool { return !p.Began.Before(to) })
}

// seen is what the daemons saw of each event by now.
func (d *drill) seen() map[string]ledger.Delivery {
	seen := map[string]ledger.Delivery{}
	for _, x := range d.Ledger.Deliveries() {
		seen[x.Event.ID] = x
	}
	return seen
}

func (d *drill) stored(p traffic.Publication) bool {
	return d.Ledger.IsStored(p.Event.OrchestratorID, p.Event.ID)
}

// missing returns those of which it does not hold.
func missing(list []traffic.Publication, holds func(traffic.Publication) bool) (ids []string) {
	for _, p := range list {
		if !holds(p) {
			ids = append(ids, p.Event.ID)
		}
	}
	return ids
}

// slowest is the longest time from a publish to the event's first receipt, in
// milliseconds.
func slowest(list []traffic.Publication, seen map[string]ledger.Delivery) (longest int64) {
	for _, p := range list {
		longest = max(longest, seen[p.Event.ID].Received.Sub(p.Began).Milliseconds())
	}
	return longest
}

// conclude ends publishing, waits for what was published from a time on, and
// judges everything, except for what is expected.
func (d *drill) conclude(ctx context.Context, from time.Time, expected func(ledger.Violation) bool) error {
	promise := ledger.Promise{Except: expected}
	if err := errors.Join(d.stopPublishing(ctx, from), d.Settle(ctx, promise)); err != nil {
		return err
	}
	r := d.Judge(promise)
	d.promised(r.Published, len(r.Violations), "the ledger's judgement of all that was published: %d receipts, %d acks", r.Receipts, r.Acks)
	return nil
}
