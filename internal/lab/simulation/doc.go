// Package simulation drives the real state machines of delivery against one
// another: router lanes, edge sessions and cursor decisions, in a random world
// of lagging replicas, lost and reordered batches, stale directories, half-open
// sockets, crashes of routers, edges and daemons, evicted events and a log that
// is rolled back. It is one thread, has no real time, and repeats from its
// seed. It holds tests only:
//
//	go test ./internal/lab/simulation -args -runs 100000 -seed 1
//
// After every step the invariants of docs/architecture.md are checked; at the
// end of a run the faults stop, and all that must have been delivered has to
// be. Each mechanism that keeps an invariant is also taken away in turn, and
// the simulation has to notice.
package simulation
