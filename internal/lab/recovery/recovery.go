// Package recovery measures how fast the service is back: with daemons on a
// cluster and a steady stream of events it breaks one thing at a time, waits
// until every daemon gets its events at once again, repairs it, and does so
// several times for each fault. In the end every event must have reached every
// daemon of its orchestrator.
//
// Publishers, daemons, NATS and Redis share the machine with the gateway, so
// the times hold for a busy small machine.
package recovery

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

type options struct {
	streams, quiet, partitions int
	interval                   time.Duration
	repetitions                int
}

// Scenario is what this package does.
func Scenario() lab.Scenario {
	return lab.Scenario{
		Name: "recovery", What: "how fast the service is back after each kind of fault",
		Takes: "30 min", Page: "docs/operations.md", New: scenario,
	}
}

func scenario(flags *flag.FlagSet) lab.Run {
	var o options
	flags.IntVar(&o.streams, "streams", 40, "orchestrators with a stream of events, half of them on Redis and half on JetStream, with a daemon on each of 3 edges")
	flags.IntVar(&o.quiet, "quiet", 180, "daemons of other orchestrators, without events")
	flags.DurationVar(&o.interval, "interval", 100*time.Millisecond, "time between two events of a stream")
	flags.IntVar(&o.repetitions, "repetitions", 5, "how often each fault is measured")
	flags.IntVar(&o.partitions, "partitions", 8, "PARTITIONS of the cluster")
	faults := lab.Select(flags, "faults", "faults", allFaults(), func(f fault) (name, what string) { return f.name, f.what })
	return func(ctx context.Context, w *lab.World) error {
		return (&recovery{World: w, options: o}).run(ctx, faults.Chosen())
	}
}

// recovery is a run.
type recovery struct {
	*lab.World
	options options
	streams []*stream
	daemons []*daemon // those of streams first
}

func (r *recovery) run(ctx context.Context, faults []fault) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	var rows []row
	for _, f := range faults {
		x := row{fault: f}
		for i := range r.options.repetitions {
			m, err := r.measure(ctx, f)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			r.Say("%s %d/%d: %s", f.name, i+1, r.options.repetitions, m)
			x.done = append(x.done, m)
		}
		rows = append(rows, x)
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	return printTable(os.Stdout, r.options, rows)
}

// begin starts the cluster, and has all daemons enter and all streams flow.
func (r *recovery) begin(ctx context.Context) error {
	if err := r.Open(ctx, cluster.Config{
		NATS: 3, Bridges: 2, Routers: 2, Edges: 3, Partitions: r.options.partitions,
		Settings: map[string]string{
			"ENABLE_PPROF": "true",
			// Daemons are brought back to where they were by the measurement.
			"BALANCE_RATE": "0",
		},
	}); err != nil {
		return err
	}
	r.layOut()
	if err := r.Enter(ctx, r.Crowd.Seats()...); err != nil {
		return err
	}
	r.Feed.Timeout, r.Feed.Retry = publishTimeout, publishRetry
	for i, s := range r.streams {
		// Spread over one interval.
		r.Feed.Start(s.author(r.options.interval, r.options.interval*time.Duration(i)/time.Duration(len(r.streams))))
	}
	return nil
}

// layOut makes the streams and the daemons; those of a stream are on as many edges.
func (r *recovery) layOut() {
	add := func(s *stream, id protocol.OrchestratorID, habit traffic.Habit) *daemon {
		d := newDaemon(s, r.Crowd.Add(id, habit))
		r.daemons = append(r.daemons, d)
		return d
	}
	for i := range r.options.streams {
		s := newStream(i, r.options.partitions)
		for range r.Edges {
			s.daemons = append(s.daemons, add(s, s.orchestrator, traffic.Habit{Name: traffic.Steady, Handle: s.handle}))
		}
		r.streams = append(r.streams, s)
	}
	for i := range r.options.quiet {
		add(nil, protocol.OrchestratorID(fmt.Sprintf("vp_quiet_%d", i)), traffic.Habit{Name: traffic.Steady})
	}
}

// handedOver is longer than a router goes on serving partitions that another one
// has taken: a fault must not find two of them at work.
const handedOver = 3 * time.Second

// repair starts what is down, and brings everybody back to where they belong.
func (r *recovery) repair(ctx context.Context) error {
	if err := r.Heal(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	for _, d := range r.daemons {
		if err := d.goHome(ctx); err != nil {
			return err
		}
	}
	return r.awaitQuiet(ctx, time.Now().Add(handedOver), time.Time{})
}

// promise is what is owed to every daemon. The log keeps too little of a run for
// the ledger to be told of it.
var promise = ledger.Promise{}

// finish ends publishing, waits for what is under way, and judges.
func (r *recovery) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	if err := r.Feed.Finish(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil && len(r.Ledger.Outstanding(promise)) > 0 {
		traffic.Wait(ctx, time.Second)
	}
	r.Say("%s", r.Judge(promise))
	return nil
}
