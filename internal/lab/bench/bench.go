// Package bench measures the gateway end to end: throughput at saturation,
// latency at fixed rates, a storm of connects, idle connections, a rush beside
// traffic, heartbeats, and the processor time of each. Load generator, NATS and Redis share the machine
// with what is measured, so numbers mean something only beside others of the same
// run: those of another revision, of what the gateway replaces, and of the parts
// alone.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/load"
)

// Scenario is what this package does.
func Scenario() lab.Scenario {
	return lab.Scenario{
		Name: "bench", What: "throughput, latency, connects and memory, beside what limits them",
		Takes: "6 min", Page: "docs/scaling.md", New: scenario,
	}
}

type options struct {
	daemons, storm, beating int
	underWay                int64
	warmUp, duration        time.Duration
	settle                  time.Duration
	runs                    int
	base, reference         string
	short                   bool

	rush     int
	known    int
	servers  int // of NATS
	secure   bool
	database bool
	profiles string
}

// measurement is done on a system of its own, so that none warms another.
type measurement struct {
	name, what string
	measure    func(b *bench, ctx context.Context, s *system) error
	// layout is what a gateway consists of for it.
	layout layout
	// in is the way in whose throughput is measured.
	in way
	// ours says that it concerns the gateway alone.
	ours bool
}

func measurements() []measurement {
	twoEdges := layout{edges: 2}
	return []measurement{
		{
			name: "log", what: "throughput of what is published to the log",
			measure: throughput(fromLog), layout: twoEdges, in: fromLog,
		},
		{
			name: "redis", what: "throughput of what is published on Redis",
			measure: throughput(fromRedis), layout: twoEdges, in: fromRedis,
		},
		{
			name: "latency", what: "from the publish to the log until the daemon has it, at 1,000 and 5,000 a second",
			measure: (*bench).latency, layout: twoEdges,
		},
		{
			name: "connections", what: "a storm of connects on one edge, and the memory of each that then does nothing",
			measure: (*bench).connections, layout: layout{edges: 1},
		},
		{
			name: "rush", what: "many that come back at once, and what others who receive events have of it",
			measure: (*bench).rush, layout: twoEdges, ours: true,
		},
		{
			name: "heartbeats", what: "of many daemons, one a second each, on their way to Redis",
			measure: (*bench).heartbeats, layout: layout{edges: 2, heartbeats: time.Second}, ours: true,
		},
	}
}

// bench is a run.
type bench struct {
	*lab.World
	options options
	chosen  []measurement
	results *results
}

// ways are the ways in that are measured.
func (b *bench) ways() (ways []way) {
	for _, m := range b.chosen {
		if m.in.name != "" {
			ways = append(ways, m.in)
		}
	}
	return ways
}

// measures reports whether a measurement was chosen.
func (b *bench) measures(name string) bool {
	return slices.ContainsFunc(b.chosen, func(m measurement) bool { return m.name == name })
}

func scenario(flags *flag.FlagSet) lab.Run {
	var o options
	flags.IntVar(&o.daemons, "daemons", 1000, "daemons that receive, each of its own orchestrator")
	flags.Int64Var(&o.underWay, "under-way", 4000, "events on their way at a time in a throughput run")
	flags.DurationVar(&o.warmUp, "warm-up", 2*time.Second, "what comes before each measurement of a rate")
	flags.DurationVar(&o.duration, "duration", 8*time.Second, "how long each rate is measured")
	flags.IntVar(&o.storm, "storm", 10_000, "connects to one edge, 128 at a time, which are then idle")
	flags.DurationVar(&o.settle, "settle", 10*time.Second, "how long connections are idle before their memory is measured")
	flags.IntVar(&o.rush, "rush", 18_000, "daemons that come back at once, 512 at a time: each takes a file descriptor here")
	flags.IntVar(&o.known, "known", 0, "orchestrators, besides those that are measured, of whom the log holds an event and a bucket the cursor")
	flags.IntVar(&o.servers, "nats", 1, "NATS servers; with three of them each stream has three replicas")
	flags.BoolVar(&o.secure, "tls", false, "have daemons connect by TLS")
	flags.BoolVar(&o.database, "database", false, "let the gateway have a PostgreSQL, with all orchestrators")
	flags.StringVar(&o.profiles, "profiles", "", "`directory` for profiles of an edge: of its processor while daemons connect, and of its heap while they are idle")
	flags.IntVar(&o.beating, "beating", 1000, "daemons with a heartbeat each second")
	flags.IntVar(&o.runs, "runs", 1, "how often each is measured, the systems in turn; medians are shown")
	flags.StringVar(&o.base, "base", "", "a `revision` to compare with, built from git")
	flags.StringVar(&o.reference, "reference", "auto", "`command` that starts the server that the gateway replaces; auto: the one of this repository, where there is Node; none")
	flags.BoolVar(&o.short, "short", false, "measure one throughput for a moment, and judge it against the limits: a gross regression is a finding")
	only := lab.Select(flags, "only", "measurements", measurements(), func(m measurement) (name, what string) { return m.name, m.what })
	return func(ctx context.Context, w *lab.World) error {
		b := &bench{World: w, options: o, chosen: only.Chosen(), results: newResults()}
		if o.short {
			return b.judge(ctx)
		}
		contestants, err := b.contestants(ctx)
		if err != nil {
			return err
		}
		for run := range o.runs {
			for _, m := range b.chosen {
				for _, c := range contestants {
					if err := b.run(ctx, run, m, c); err != nil {
						return fmt.Errorf("%s, %s: %w", m.name, c.name, err)
					}
				}
			}
			if err := b.limits(ctx, run); err != nil {
				return fmt.Errorf("limits: %w", err)
			}
		}
		fmt.Printf("\n%s, medians of %d\n", lab.Machine(), o.runs)
		return b.results.print(os.Stdout)
	}
}

// run measures one thing on one system.
func (b *bench) run(ctx context.Context, run int, m measurement, c contestant) error {
	if m.ours && !c.gateway() {
		return nil
	}
	b.Say("measuring: %s, %s…", m.name, c.name)
	leave, err := b.enter(fmt.Sprintf("%s-%s-%d", m.name, c.name, run))
	if err != nil {
		return err
	}
	defer leave()
	s, err := c.open(ctx, b, m.layout)
	if err != nil {
		return err
	}
	defer s.close()
	if err := m.measure(b, ctx, s); err != nil {
		return err
	}
	for _, crash := range s.crashes() {
		b.Find("%s", crash)
	}
	return nil
}

// enter has all that follows keep its files in a directory of its own, until
// leave is called.
func (b *bench) enter(name string) (leave func(), err error) {
	dir := b.Dir
	b.Dir = filepath.Join(dir, name)
	// Data of an earlier run would be read.
	return func() { b.Dir = dir }, errors.Join(os.RemoveAll(b.Dir), os.MkdirAll(b.Dir, 0o755))
}

// fleet connects daemons.
func (b *bench) fleet(ctx context.Context, s *system, daemons int) (*load.Fleet, error) {
	return load.Open(ctx, load.Config{
		URLs: s.urls, Secret: s.secret, TLS: s.tls, Daemons: daemons, Unconfirmed: s.unconfirmed, Heartbeats: s.layout.heartbeats,
	})
}

// check notes what must not be in what daemons have seen. Repeats may be: where
// the machine stands still for long, say.
func (b *bench) check(s *system, seen load.Seen) {
	if s.gateway && seen.Disordered > 0 {
		b.Find("%s: %d events came out of order", s.name, seen.Disordered)
	}
	if seen.Repeated > 0 {
		b.Say("%s: %d events came more than once", s.name, seen.Repeated)
	}
}
