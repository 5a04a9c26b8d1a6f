package lab

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// Action is what is done to a process, until it is undone.
type Action string

// The actions.
const (
	// Kill ends it without a warning.
	Kill Action = "kill"
	// Pause has it stand still.
	Pause Action = "pause"
	// Restart ends it gracefully, by SIGTERM.
	Restart Action = "restart"
	// Leave ends a NATS server gracefully, in its lame duck mode, by SIGUSR2.
	Leave Action = "leave"
)

// stopLimit is how long a process may take to end gracefully; more than
// SHUTDOWN_TIMEOUT, and than a NATS server takes to close its connections in
// lame duck mode: 10 s and up to 1 s for each.
const stopLimit = 40 * time.Second

// Do does something to a process and returns when it is done. A process that
// does not end gracefully is a finding.
func (w *World) Do(ctx context.Context, a Action, p *process.Process) {
	switch a {
	case Kill:
		p.Kill()
	case Pause:
		if err := p.Pause(); err != nil {
			w.Find("pause %s: %v", p.Name(), err)
		}
	case Restart:
		w.end(ctx, p, syscall.SIGTERM)
	case Leave:
		w.end(ctx, p, syscall.SIGUSR2)
	}
}

// Undo has a process run again to which something was done.
func (w *World) Undo(a Action, p *process.Process) {
	if a == Pause {
		p.Resume()
		return
	}
	if err := p.Start(); err != nil {
		w.Find("%s does not start again: %v", p.Name(), err)
	}
}

func (w *World) end(ctx context.Context, p *process.Process, how syscall.Signal) {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	code, err := p.End(ctx, how)
	isNode := slices.ContainsFunc(w.Nodes(), func(n *cluster.Node) bool { return n.Process == p })
	switch {
	case err != nil:
		w.Find("%s does not end: %v", p.Name(), err)
		p.Kill()
	case code > 0 && isNode: // a NATS server ends with 1; -1: it had not begun to listen to signals
		w.Find("%s was to end gracefully and exited with code %d; it wrote:\n%s", p.Name(), code, p.Tail(15))
	}
}

// Tiers returns the groups of processes that faults pick from.
func Tiers() []string { return []string{"edge", "router", "bridge", "nats", "redis"} }

// Tier returns the processes of a tier.
func (w *World) Tier(name string) []*process.Process {
	return slices.DeleteFunc(w.Processes(), func(p *process.Process) bool { return p.Name() != name && !strings.HasPrefix(p.Name(), name+"-") })
}
