// Package chaos runs a cluster under traffic, breaks it at random from a seed,
// and judges what publishers and daemons saw of it: nothing acknowledged may be
// lost, order must hold, and every repeat must have its reason. It shows the
// faults and how fast the service was back.
package chaos

import (
	"context"
	"errors"
	"flag"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// Scenario is what this package does.
func Scenario() lab.Scenario {
	return lab.Scenario{
		Name: "chaos", What: "nothing is lost, out of order or repeated without reason, whatever is killed, paused, restarted or cut off",
		Takes: "4 min", Page: "docs/reliability.md", Network: true, New: scenario,
	}
}

type options struct {
	duration, settle, calm time.Duration
	daemons, rate, routers int
	fickle, workers        bool
	slow, careless         bool
}

func scenario(flags *flag.FlagSet) lab.Run {
	var o options
	flags.DurationVar(&o.duration, "duration", 3*time.Minute, "how long faults happen")
	flags.DurationVar(&o.settle, "settle", 90*time.Second, "how long after the last fault the rest may take to be delivered")
	flags.DurationVar(&o.calm, "calm", 25*time.Second, "how long nothing happens after every sixth fault or so")
	flags.IntVar(&o.daemons, "daemons", 200, "daemons, two for each orchestrator")
	flags.IntVar(&o.rate, "rate", 150, "events published a second, half on Redis and half on JetStream")
	flags.IntVar(&o.routers, "routers", 2, "routers")
	flags.BoolVar(&o.fickle, "fickle", true, "some daemons want something else each time they come back, while their last connection is half-open")
	flags.BoolVar(&o.workers, "workers", true, "some daemons take their time, acknowledge in batches or by HTTP, or crash at certain events")
	flags.BoolVar(&o.slow, "slow", true, "between the other faults a process or its link is slow, and connections with NATS hold little")
	flags.BoolVar(&o.careless, "careless", true, "some publishers take the log to have another number of partitions, or name daemons that have yet to come for the first time")
	kinds := lab.Select(flags, "faults", "faults", slices.Concat(allKinds(), slowKinds()), func(k kind) (name, what string) { return k.name, "" })
	return func(ctx context.Context, w *lab.World) error {
		c := &chaos{World: w, options: o}
		chosen, err := possible(kinds.Chosen(), o.slow, w.Network)
		if err != nil {
			return err
		}
		return c.run(ctx, chosen)
	}
}

// partitions is less than the default: each is a Raft group in each of three
// servers, and all of them share this machine with everything else.
const partitions = 8

// ackTimeout is less than the default: a run of minutes is to see it pass.
const ackTimeout = 3 * time.Second

// afterwards is how long traffic goes on after the last fault has healed.
const afterwards = 5 * time.Second

// chaos is a run.
type chaos struct {
	*lab.World
	options options
	nemesis *nemesis

	orchestrators [][]*traffic.Seat // those of rivals last
	rivals        *traffic.Crowd
	// settling: the lazy ones acknowledge all that comes, or comes again.
	settling atomic.Bool
	events   atomic.Uint64 // published so far
	healed   time.Time
}

// run is traffic, faults for as long as was asked, healing, the time that the
// rest may take, and the verdict.
func (c *chaos) run(ctx context.Context, kinds []kind) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	defer c.rivals.Close()
	c.publish()
	c.Crowd.Stir()
	c.rivals.Stir()
	traffic.Wait(ctx, afterwards)
	c.nemesis.run(ctx, kinds, c.options.duration)
	if err := c.Heal(ctx); err != nil {
		return err
	}
	c.healed = time.Now()
	c.Say("all healed")
	traffic.Wait(ctx, afterwards)
	c.Crowd.Calm()
	c.settling.Store(true)
	if err := c.finish(ctx); err != nil {
		return err
	}
	if err := errors.Join(c.settle(ctx), ctx.Err()); err != nil {
		return err
	}
	v, err := c.judge(ctx)
	if err != nil {
		return err
	}
	return v.print(os.Stdout)
}

func (c *chaos) open(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	err := c.LayOut(cluster.Config{
		NATS: 3, Bridges: 2, Routers: c.options.routers, Edges: 3, Partitions: partitions,
		Settings: map[string]string{
			"ENABLE_PPROF": "true",
			"ACK_TIMEOUT":  ackTimeout.String(),
			// Acks that a cut holds up for twelve seconds, and TCP for as long again,
			// must not make dead letters.
			"MAX_DELIVERIES":        "9",
			"WS_HEARTBEAT_INTERVAL": "5000",
			// Five daemons of an orchestrator ask more often than daemons have to.
			"RATE_MESSAGES_PER_MINUTE": "1000",
			// No event of a run is to go because there are newer ones.
			"EVENTS_PER_ORCHESTRATOR":   "1000000",
			"WS_MAX_CONNECTIONS_PER_VP": strconv.Itoa(connectionLimit),
		},
	})
	if err != nil {
		return err
	}
	if err := errors.Join(c.shallow(), c.Start(bounded), c.Connect()); err != nil {
		return err
	}
	c.nemesis = newNemesis(c)
	c.layOut()
	return c.Enter(ctx, c.Crowd.Seats()...)
}

// shallow has little room between the gateway's nodes and NATS: that of an edge is
// full within seconds where a server stands still.
func (c *chaos) shallow() error {
	if !c.options.slow || c.Network == nil {
		return nil
	}
	var failures []error
	for _, n := range c.Nodes() {
		failures = append(failures, c.Network.Shallow(network.Host(n.Name()), network.Sending))
	}
	for _, h := range hostsOf(c.Tier("nats")) {
		failures = append(failures, c.Network.Shallow(h, network.Receiving))
	}
	return errors.Join(failures...)
}

// settle waits until nothing is missing, at most for the time that was given.
// What is missing then is for the judge.
func (c *chaos) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.settle)
	defer cancel()
	for returned := false; ctx.Err() == nil; traffic.Wait(ctx, time.Second) {
		if err := c.Record(ctx); err != nil {
			c.Say("reading the log is tried again: %v", err)
			continue
		}
		missing := c.Ledger.Outstanding(c.promise())
		if !returned && (len(missing) == 0 || time.Since(c.healed) > c.options.settle/2) {
			c.Say("%d missing; the renamed come back under their last names", len(missing))
			returned = true
			if err := c.returnRenamed(ctx); err != nil {
				return err
			}
			continue
		}
		if len(missing) == 0 {
			break
		}
	}
	c.Say("%d missing, %s after healing", len(c.Ledger.Outstanding(c.promise())), time.Since(c.healed).Round(time.Millisecond))
	return nil
}

// possible leaves out what is slow where that is not wanted, and what concerns
// links where there are none, or none that can be slow.
func possible(kinds []kind, slow bool, links *network.Network) ([]kind, error) {
	narrows := links != nil && links.CheckSlow() == nil
	kinds = slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool {
		return k.slow && !slow || k.cuts && links == nil || k.narrows && !narrows
	})
	if len(kinds) == 0 {
		return nil, errors.New("none of the faults that were chosen can happen: there is no private network, or no slow links in it, or nothing is to be slow")
	}
	return kinds, nil
}
