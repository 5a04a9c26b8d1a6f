package simulation

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// mistake is a simplification that the design rules out. Each takes one
// mechanism away, at the border of the state machines, and has to be caught.
type mistake string

// none is the design as it is.
const none mistake = ""

// The mistakes. Each is made at the border of the state machines, so that no
// code under test knows of it.
const (
	// sharedConsumer: all routers read through one consumer, so each sees only
	// a part of the log and claims more about gaps than it knows.
	sharedConsumer mistake = "routers share a consumer"
	// afterNotRaised: what falls out of a router's memory does not raise after.
	afterNotRaised mistake = "after is not raised when memory forgets"
	// upToFromLeader: complete is taken from the leader while the newest
	// sequence came from a replica that lags.
	upToFromLeader mistake = "up-to from the leader, newest from a replica"
	// startFromNow: a daemon id never seen starts from now.
	startFromNow mistake = "a new daemon id starts from now"
	// epochIgnored: edges go on with the sequences of a log that was rolled back.
	epochIgnored mistake = "a rolled-back log is not noticed"
	// onlyPositions: a rollback is looked for by positions alone, and not by when
	// the message at the position was stored.
	onlyPositions mistake = "a rolled-back log that has grown again is taken for the same"
	// staleAnswers: an answer of an earlier epoch is taken for one of this.
	staleAnswers mistake = "answers of an earlier epoch are believed"
	// unorderedSocket: a socket writes what waits for it in any order.
	unorderedSocket mistake = "the socket writes in any order"
	// floorIsComplete: the cursor follows what was considered, not what was settled.
	floorIsComplete mistake = "the cursor passes what is unsettled"
	// deadLetterUnstored: the cursor passes a dead letter that was not stored.
	deadLetterUnstored mistake = "a dead letter counts before it is stored"
	// rangesForgotten: settled ranges above the floor are not kept.
	rangesForgotten mistake = "settled ranges are not kept"
	// newestEntryWins: the last writer of a cursor wins, also where a newer
	// connection of the daemon has begun.
	newestEntryWins mistake = "the newest cursor entry wins"
	// windowUnbounded: a session considers as much as comes.
	windowUnbounded mistake = "the window has no bound"
	// gracefulInVain: a connection that ends gracefully counts as a try in vain.
	gracefulInVain mistake = "a graceful end counts against the event in hand"
	// unansweredInVain: what was written counts as a try, whether or not it has come.
	unansweredInVain mistake = "a break counts against an event that has never come"
	// deafBefore: what routers say before a start is decided is dropped.
	deafBefore mistake = "what routers say before the start is dropped"
	// seriesOver: what only a later one of a series of subscribes matches is passed
	// before that has come.
	seriesOver mistake = "a series of subscribes is over after the first"
	// unrecorded: a daemon is told of a later subscribe before the record knows of it.
	unrecorded mistake = "a later subscribe is answered before it is recorded"
	// foreignSession: a connection is not bound to the orchestrator that it
	// has authenticated for.
	foreignSession mistake = "a connection is bound to another orchestrator"
)

const (
	lost        = "invariant 1"
	disordered  = "invariant 2"
	passed      = "invariant 3"
	unbounded   = "invariant 4"
	foreign     = "invariant 5"
	resentAcked = "acknowledged and flushed before"
	givenUp     = "up too early"
	unheard     = "takes that for all"
)

// mistakes says for each what it breaks.
var mistakes = []struct {
	mistake mistake
	breaks  []string
}{
	{sharedConsumer, []string{lost, passed}},
	{afterNotRaised, []string{lost, passed}},
	{upToFromLeader, []string{lost, passed}},
	{startFromNow, []string{lost, passed}},
	{epochIgnored, []string{lost}},
	{onlyPositions, []string{lost}},
	{staleAnswers, []string{lost, passed}},
	{unorderedSocket, []string{disordered}},
	{floorIsComplete, []string{passed}},
	{deadLetterUnstored, []string{lost, passed}},
	{rangesForgotten, []string{resentAcked}},
	{newestEntryWins, []string{resentAcked, passed}},
	{windowUnbounded, []string{unbounded}},
	{gracefulInVain, []string{givenUp}},
	{unansweredInVain, []string{givenUp}},
	{deafBefore, []string{unheard}},
	{seriesOver, []string{lost, passed}},
	{unrecorded, []string{lost, passed}},
	{foreignSession, []string{foreign}},
}

func (w *world) distort(rt *router, send *lane.Send) {
	for i := range send.Batch.Events {
		f := &send.Batch.Events[i]
		if w.mistake == afterNotRaised && send.Attempt == 1 {
			f.After = rt.start
			for _, s := range w.log.stored {
				if s.Token == f.Token && s.Sequence < f.Sequence && rt.lane.Position()-s.Sequence < routerMemory {
					f.After = s.Sequence
				}
			}
		}
	}
}

func (w *world) distortEntry(c *conn, entry *cursor.Entry) {
	switch w.mistake {
	case floorIsComplete:
		entry.Floor, entry.Settled = c.s.Position().Sequence, nil
	case rangesForgotten:
		entry.Settled = nil
	}
}

// run is the run that an answer is tagged with.
func (w *world) run(c *conn, asked uint32) uint32 {
	if w.mistake == staleAnswers {
		return c.latestRun
	}
	return asked
}

func (w *world) decide(record cursor.Record, req cursor.StartRequest) (cursor.Record, cursor.Decision) {
	next, d := cursor.Start(record, req)
	if _, known := record.Daemons[req.Daemon]; w.mistake == startFromNow && (!known || record.Epoch != req.Epoch) {
		d.Entry.Floor, d.Entry.Settled = w.log.last, nil
		next.Daemons[req.Daemon] = d.Entry
	}
	return next, d
}

// subscribedAt is when a subscribe counts as said.
func (w *world) subscribedAt() time.Time {
	if w.mistake == seriesOver {
		return w.now.Add(-time.Hour)
	}
	return w.now
}

// window and orchestrator are what a session is configured with.
func (w *world) window() int {
	if w.mistake == windowUnbounded {
		return 1000
	}
	return windowEvents
}

func (w *world) orchestrator(d *daemon) event.Token {
	if w.mistake == foreignSession {
		return w.tokens[0]
	}
	return d.token
}
