package soak

import (
	"context"
	"fmt"
	"os"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// quantity is what is measured of a process.
type quantity struct {
	name      string
	tolerance tolerance
	bytes     bool
}

const mebibyte = 1 << 20

// What is measured. A heap breathes by its garbage, and resident memory follows
// it at a distance; goroutines and descriptors follow the daemons that come and go.
var (
	resident      = quantity{"resident memory", tolerance{24 * mebibyte, 0.30}, true}
	heap          = quantity{"heap in use", tolerance{16 * mebibyte, 0.30}, true}
	goroutines    = quantity{"goroutines", tolerance{20, 0.10}, false}
	descriptors   = quantity{"file descriptors", tolerance{10, 0.10}, false}
	connections   = quantity{"connections", tolerance{3, 0}, false}
	subscriptions = quantity{"subscriptions", tolerance{8, 0.05}, false}
	streams       = quantity{"streams", tolerance{0, 0}, false}
	consumers     = quantity{"consumers", tolerance{2, 0}, false}
)

// partitions is the cluster's default.
const partitions = 16

// unfinishedBlocks is what a NATS server may take for the blocks that it writes:
// it holds the unfinished one of each stream in memory, 8 MiB of a partition and
// 4 MiB of a bucket, of which there is one for each partition and a few more. They
// fill as fast as is written, so at a moderate rate its memory rises for most of
// an hour until it levels off.
const unfinishedBlocks = (8*partitions + 4*(partitions+3)) * mebibyte

var residentOfNATS = quantity{"memory with blocks", tolerance{unfinishedBlocks, 0.30}, true}

// key names one series.
type key struct {
	process  string
	quantity quantity
}

// samples collects series. It is not safe for concurrent use.
type samples struct {
	keys   []key // in the order of their first value
	values map[key][]float64
}

func newSamples() *samples { return &samples{values: map[key][]float64{}} }

func (s *samples) add(process string, q quantity, value float64) {
	k := key{process, q}
	if s.values[k] == nil {
		s.keys = append(s.keys, k)
	}
	s.values[k] = append(s.values[k], value)
}

// take measures every process of a cluster once.
func (s *samples) take(ctx context.Context, c *cluster.Cluster) error {
	for _, n := range c.Nodes() {
		if err := s.takeNode(ctx, n); err != nil {
			return fmt.Errorf("measure %s: %w", n.Name(), err)
		}
	}
	for _, n := range c.NATS {
		u, err := n.Usage(ctx)
		if err != nil {
			return fmt.Errorf("measure %s: %w", n.Name(), err)
		}
		s.add(n.Name(), connections, float64(u.Connections))
		s.add(n.Name(), subscriptions, float64(u.Subscriptions))
		s.add(n.Name(), streams, float64(u.Streams))
		s.add(n.Name(), consumers, float64(u.Consumers))
		s.takeSystem(n.Process, residentOfNATS)
	}
	s.takeSystem(c.Redis.Process, resident)
	return nil
}

func (s *samples) takeNode(ctx context.Context, n *cluster.Node) error {
	for _, m := range []struct {
		metric   string
		quantity quantity
	}{
		{"process_resident_memory_bytes", resident},
		{"go_memstats_heap_inuse_bytes", heap},
		{"go_goroutines", goroutines},
		{"process_open_fds", descriptors},
	} {
		value, err := n.Metric(ctx, m.metric)
		if err != nil {
			return err
		}
		s.add(n.Name(), m.quantity, value)
	}
	return nil
}

// takeSystem asks the system about a process that says nothing of itself. Where
// the system has no /proc, nothing is known.
func (s *samples) takeSystem(p *process.Process, memory quantity) {
	if u, err := p.Usage(); err == nil {
		s.add(p.Name(), memory, float64(u.Resident))
	}
	if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.ID())); err == nil {
		s.add(p.Name(), descriptors, float64(len(files)))
	}
}
