package bench

import (
	"context"
	"errors"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

// meter is what the programs of a system had used when something began.
type meter struct {
	system   *system
	before   []used // by tier
	messages float64
}

// used is what the programs of a tier have used.
type used struct {
	seconds     float64 // of processors
	resident    float64 // bytes
	allocations float64 // of a gateway's nodes
}

func (s *system) meter(ctx context.Context) (meter, error) {
	m := meter{system: s}
	for _, t := range s.tiers {
		u, err := t.used(ctx)
		if err != nil {
			return m, err
		}
		m.before = append(m.before, u)
	}
	messages, err := s.messages(ctx)
	m.messages = messages
	return m, err
}

// messages is how many NATS has been sent by its clients, if there is one.
func (s *system) messages(ctx context.Context) (n float64, err error) {
	for _, server := range s.nats {
		u, err := server.Usage(ctx)
		if err != nil {
			return 0, err
		}
		n += float64(u.Received)
	}
	return n, nil
}

func (t tier) used(ctx context.Context) (u used, err error) {
	// Before processor time: to be asked costs some.
	if u.allocations, err = cluster.Sum(ctx, t.nodes, "go_memstats_mallocs_total"); err != nil {
		return u, err
	}
	for _, p := range t.processes {
		usage, err := p.Usage()
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return u, err
		}
		u.seconds += usage.CPU.Seconds()
		u.resident += float64(usage.Resident)
	}
	return u, nil
}

// add notes what each of n has cost since the meter was made.
func (m meter) add(ctx context.Context, r *results, name string, n float64) error {
	total := 0.0
	for i, t := range m.system.tiers {
		u, err := t.used(ctx)
		if err != nil {
			return err
		}
		cpu := (u.seconds - m.before[i].seconds) / n * 1e6
		total += cpu
		r.add(name+", CPU of "+t.name+", µs each", m.system.name, cpu)
		if t.nodes != nil {
			r.add(name+", allocations of "+t.name+", each", m.system.name, (u.allocations-m.before[i].allocations)/n)
		}
	}
	r.add(name+", CPU of all programs, µs each", m.system.name, total)
	messages, err := m.system.messages(ctx)
	if err == nil && len(m.system.nats) > 0 {
		r.add(name+", messages to NATS, each", m.system.name, (messages-m.messages)/n)
	}
	return err
}

// addMemory notes by how much the first tier has grown for each of n.
func (m meter) addMemory(r *results, name string, n float64) error {
	t := m.system.tiers[0]
	before, after := m.before[0].resident, 0.0
	for _, p := range t.processes {
		usage, err := p.Usage()
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return err
		}
		after += float64(usage.Resident)
	}
	r.add(name+", KiB resident", m.system.name, (after-before)/n/1024)
	return nil
}
