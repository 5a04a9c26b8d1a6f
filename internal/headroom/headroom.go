// Package headroom says how much a program's heap may grow between two garbage
// collections, and how much memory it may take in all.
//
// Go lets it double (GOGC=100), which suits neither of a gateway's two states. An
// edge with thousands of idle connections has a large heap in which next to
// nothing happens: it would hold twice what it uses, and collect every few
// minutes. A router, or an edge with few connections and many events, has a heap
// of a few megabytes, allocates a hundred a second, and would collect ten times a
// second. So the room follows what is allocated: enough for some seconds, within
// bounds.
package headroom

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

const (
	// interval is how often the room is computed.
	interval = time.Second
	// spell is for how long it should be enough.
	spell = 6
	// least is the room of a program that allocates next to nothing: this, or
	// leastPercent of what it uses. The more it uses, the more a collection costs.
	least, leastPercent = 8 << 20, 10
	// most is the room of a program that allocates much: this, or as much again as
	// it uses, as Go has it.
	most, mostPercent = 32 << 20, 100
)

// Kept returns run as a function that keeps the process's room and its memory
// limit while it runs. What the operator has set, GOGC or GOMEMLIMIT, is not
// changed.
func Kept(run func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
		var kept sync.WaitGroup
		if os.Getenv("GOGC") == "" {
			kept.Go(func() { keep(keeping) })
		}
		if os.Getenv("GOMEMLIMIT") == "" {
			kept.Go(func() { followLimit(keeping) })
		}
		defer kept.Wait()
		defer stop()
		return run(ctx)
	}
}

func keep(ctx context.Context) {
	var p pacer
	var u usage
	lifecycle.Every(ctx, interval, func(time.Time) {
		u.read()
		percent, changed, over := p.next(u)
		if changed {
			debug.SetGCPercent(percent)
		}
		if over {
			debug.FreeOSMemory()
		}
	})
}

// usage is what the runtime says of its memory, in bytes.
type usage struct {
	allocated uint64 // since the start
	live      uint64 // what a collection goes through: heap, stacks and globals
}

func (u *usage) read() {
	samples := [...]metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(samples[:])
	u.allocated, u.live = samples[0].Value.Uint64(), 0
	for _, s := range samples[1:] {
		u.live += s.Value.Uint64()
	}
}

// pacer computes GOGC.
type pacer struct {
	allocated uint64
	rate      uint64 // bytes in an interval
	percent   int    // 0: Go's
	rush      bool   // more than a little has been allocated, and is still
}

// next returns what GOGC is to be after another interval, whether that is worth
// setting, and whether a rush is over, so that the system may have back what it
// took: the runtime itself would keep much of that for hours, if nothing more is
// allocated. A rush counts at once, and is forgotten within seconds.
func (p *pacer) next(u usage) (percent int, changed, over bool) {
	p.rate = max(u.allocated-p.allocated, p.rate/2)
	p.allocated = u.allocated
	live := max(u.live, 8<<20) // it grows before the next interval
	little := max(least, live*leastPercent/100)
	room := min(max(spell*p.rate, little), max(most, live*mostPercent/100))
	over = p.rush && room == little
	p.rush = !over && (p.rush || room >= 2*little)
	percent = int(room * 100 / live)
	if difference := percent - p.percent; 8*max(difference, -difference) <= p.percent {
		return p.percent, false, over
	}
	p.percent = percent
	return percent, true, over
}
