package ledger_test

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// prioritize changes the priority of an event, as published and as received.
func (r *run) prioritize(id string, priority int) {
	for _, events := range [][]event.Event{r.events, r.inLog} {
		events[slices.IndexFunc(events, func(e event.Event) bool { return e.ID == id })].Priority = priority
	}
	for _, events := range r.receipts {
		for i := range events {
			if events[i].EventID == id {
				events[i].Priority = priority
			}
		}
	}
}

func (r *run) addressed(id string) bool {
	return slices.ContainsFunc(r.events, func(e event.Event) bool { return e.ID == id && e.DaemonID != "" })
}

// redeliver has every connection receive its events as the log has them now.
func (r *run) redeliver() {
	for i, events := range r.receipts {
		for j, e := range events {
			at := slices.IndexFunc(r.inLog, func(stored event.Event) bool { return stored.ID == e.EventID })
			events[j] = r.asReceived(r.inLog[at])
		}
		slices.SortFunc(r.receipts[i], func(a, b protocol.Event) int {
			if a.Position < b.Position {
				return -1
			}
			return 1
		})
	}
}

// comeBack ends a connection in the middle; the rest comes to a new one of the
// same seat.
func (r *run) comeBack(conn int, id protocol.DaemonID) {
	next := len(r.conns)
	again := r.conns[conn]
	again.Daemon = id
	r.conns = append(r.conns, again)
	r.closed[conn], r.late[next] = true, true
	half := len(r.receipts[conn]) / 2
	r.receipts[next] = slices.Clone(r.receipts[conn][half:])
	r.receipts[conn] = r.receipts[conn][:half]
	for _, e := range r.receipts[next] {
		if slices.Contains(r.acks[conn], e.EventID) {
			r.unack(conn, e.EventID)
			r.acks[next] = append(r.acks[next], e.EventID)
		}
	}
}
