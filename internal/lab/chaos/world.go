package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// partitions is less than the default: each is a Raft group in each of three
// servers, and all of them share this machine with everything else.
const partitions = 8

// afterwards is how long traffic goes on after the last fault has healed.
const afterwards = 5 * time.Second

// patience bounds what must not take long: starting, and becoming ready.
const patience = 90 * time.Second

// lookTimeout bounds one look at the whole log.
const lookTimeout = 20 * time.Second

// world is a cluster with its traffic and its nemesis.
type world struct {
	*cluster.Cluster
	network *network.Network // nil: all processes share loopback
	options options
	ledger  *ledger.Ledger
	log     *traffic.Log
	crowd   *crowd
	press   *press
	nemesis *nemesis
	began   time.Time
	healed  time.Time
}

// random returns a source of its own for each part of the run, so that one
// part's draws do not change another's.
func (o options) random(part uint64) *rand.Rand { return rand.New(rand.NewPCG(o.seed, part)) }

func newWorld(ctx context.Context, o options, g ground) (*world, error) {
	c, err := cluster.New(cluster.Config{
		Binaries: g.binaries, Dir: g.dir, NATS: 3, Bridges: 2, Routers: o.routers, Edges: 3,
		Place: g.place(),
		Settings: map[string]string{
			"PARTITIONS":      strconv.Itoa(partitions),
			"STREAM_REPLICAS": "3",
			"LOG_LEVEL":       o.level,
			"ENABLE_PPROF":    "true",
			// A run of minutes is to see what takes half a minute by default.
			"ACK_TIMEOUT": "3s",
			// Acks that a cut holds up for twelve seconds, and TCP for as long again,
			// must not make dead letters.
			"MAX_DELIVERIES":        "9",
			"WS_HEARTBEAT_INTERVAL": "5000",
			// No event of a run is to go because there are newer ones.
			"EVENTS_PER_ORCHESTRATOR":   "1000000",
			"WS_MAX_CONNECTIONS_PER_VP": strconv.Itoa(connectionLimit),
		},
	})
	if err != nil {
		return nil, err
	}
	w := &world{Cluster: c, network: g.network, options: o, ledger: ledger.New(), began: time.Now()}
	if err := w.start(ctx); err != nil {
		report := c.Report(20)
		w.close()
		return nil, fmt.Errorf("%w\n%s", err, report)
	}
	return w, nil
}

func (w *world) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.Start(ctx); err != nil {
		return err
	}
	var err error
	if w.log, err = traffic.OpenLog(w.NATSURL()); err != nil {
		return err
	}
	w.crowd = newCrowd(w)
	if w.press, err = newPress(w); err != nil {
		return err
	}
	w.nemesis = newNemesis(w)
	return w.crowd.start(ctx)
}

func (w *world) close() {
	if w.press != nil {
		w.press.close()
	}
	if w.crowd != nil {
		w.crowd.stop()
	}
	if w.log != nil {
		w.log.Close()
	}
	w.Close()
}

// breakIt is the run: traffic, faults for as long as was asked, healing, and
// the time that the rest may take.
func (w *world) breakIt(ctx context.Context, faults []fault) error {
	w.press.start()
	w.crowd.churn()
	wait(ctx, afterwards)
	w.nemesis.rage(ctx, faults, w.options.duration)
	if err := w.heal(ctx); err != nil {
		return err
	}
	w.healed = time.Now()
	w.say("all healed")
	wait(ctx, afterwards)
	w.crowd.calm()
	if err := w.press.finish(ctx); err != nil {
		return err
	}
	w.say("everything published")
	return errors.Join(w.settle(ctx), ctx.Err())
}

func (w *world) heal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if w.network != nil {
		if err := w.network.MendAll(); err != nil {
			return err
		}
	}
	for _, p := range w.Processes() {
		p.Resume()
		if err := p.Start(); err != nil {
			return err
		}
	}
	for _, s := range w.NATS {
		if err := s.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return w.AwaitReady(ctx)
}

// settle waits until nothing is missing, at most for the time that was given.
// What is missing then is for the judge.
func (w *world) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.options.settle)
	defer cancel()
	for finale := false; ctx.Err() == nil; wait(ctx, time.Second) {
		if err := w.record(ctx); err != nil {
			w.say("reading the log is tried again: %v", err)
			continue
		}
		missing := w.ledger.Outstanding(w.promise())
		if !finale && (len(missing) == 0 || time.Since(w.healed) > w.options.settle/2) {
			w.say("%d missing; the renamed come back under their last names", len(missing))
			finale = true
			if err := w.crowd.finale(ctx); err != nil {
				return err
			}
			continue
		}
		if len(missing) == 0 {
			break
		}
	}
	w.say("%d missing, %s after healing", len(w.ledger.Outstanding(w.promise())), time.Since(w.healed).Round(time.Millisecond))
	return nil
}

// record looks what the log holds. A consumer that has lost its server may
// stand still, which is the client library's business and no finding.
func (w *world) record(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return w.log.Record(ctx, w.ledger, partitions)
}

func (w *world) say(format string, args ...any) {
	fmt.Printf("%s %6.1fs  %s\n", time.Now().UTC().Format("15:04:05.000"), time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
