package cursor

import (
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Settle returns the record in which events that were acknowledged by HTTP, on
// no connection, are settled for the daemon of req, and how many of them had
// not been. Each of acknowledged ends with such an event and begins right after
// the orchestrator's event before it. rec is not modified.
//
// A daemon without an entry is given one as by Start, without subscriptions, so
// that whoever comes after it takes it over. Where req names no daemon the events
// are settled for all, and where there is none, for whoever comes first.
//
// What finds no place in an entry (see MaxRanges) is not settled and not counted.
func Settle(rec Record, req StartRequest, acknowledged []Range) (next Record, settled int) {
	if rec.Epoch.Newer(req.Epoch) || len(acknowledged) == 0 {
		return rec, 0
	}
	next = rec.addressees(req)
	counted := make(map[uint64]bool)
	for id, e := range next.Daemons {
		if req.Daemon != "" && id != req.Daemon {
			continue
		}
		before := e
		e.settle(acknowledged, defaultLimits)
		e.Written = written(req.Now)
		next.Daemons[id] = e
		for _, r := range acknowledged {
			counted[r.Last] = counted[r.Last] || !before.Settles(r.Last) && e.Settles(r.Last)
		}
	}
	for _, is := range counted {
		if is {
			settled++
		}
	}
	if settled == 0 {
		return rec, 0
	}
	return next, settled
}

// addressees returns a copy of the record that has an entry for the daemon of
// req, or where it names none, any entry.
func (rec Record) addressees(req StartRequest) Record {
	next := rec.at(req.Epoch)
	if req.Daemon == "" {
		if len(next.Daemons) == 0 {
			next.Daemons[Remainder] = Entry{}
		}
		return next
	}
	if _, known := next.Daemons[req.Daemon]; known {
		return next
	}
	req.Subscriptions, req.HasResume, req.Edge = nil, false, ""
	next, _ = Start(rec, req)
	return next
}

// Holding returns the edges that hold connections of the daemon, or, where that is empty,
// of all, as the entries have it. The directory may not show them.
func (rec Record) Holding(daemon protocol.DaemonID) (edges []string) {
	for id, e := range rec.Daemons {
		if (daemon == "" || id == daemon) && e.Edge != "" && e.Edge != UnknownEdge && !slices.Contains(edges, e.Edge) {
			edges = append(edges, e.Edge)
		}
	}
	return edges
}
