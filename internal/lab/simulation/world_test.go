package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	keep          = 14 // events retained for each orchestrator
	windowEvents  = 4
	ackTimeout    = 8 * time.Second
	maxDeliveries = 2
	routerMemory  = 2 // orchestrators remembered, fewer than there are
)

// world is everything there is, and the random source that moves it.
type world struct {
	r       *rand.Rand
	now     time.Time
	mistake mistake
	temper  temper
	hints   float64 // how many of those about cursors arrive

	log           eventLog
	tokens        []event.Token
	records       map[event.Token]versioned
	checkpoint    checkpoint
	routers       []*router
	edges         []*edge
	daemons       []*daemon
	flights       []flight
	names         int
	sharedPos     uint64
	acked         map[string]bool // event ids acknowledged by some daemon
	ackedBy       map[ackedBy]bool
	deadLettered  map[string]bool
	vain          map[string]int     // tries of an event that were in vain
	flushedAcks   map[flushedAck]int // and the step in which they were flushed
	settled       map[settledFor]bool
	connectedView map[protocol.DaemonID]bool // the directory's, stale
	edgesView     map[string]bool            // the same of edges

	stats statistics
	fault error
}

// temper is what happens often in a world.
type temper uint8

const (
	even       temper = iota
	restless          // daemons come and go
	slow              // acks are overdue
	rolledBack        // the log is rolled back
)

type versioned struct {
	revision uint64
	record   cursor.Record
}

type checkpoint struct {
	epoch    eventlog.Epoch
	sequence uint64
	seen     eventlog.Mark
}

// flushedAck is an acknowledged event that a daemon's cursor, as stored, knows
// to be settled.
type flushedAck struct {
	daemon protocol.DaemonID
	epoch  eventlog.Epoch
	seq    uint64
}

// ackedBy is an event that a daemon has acknowledged, in whatever epoch.
type ackedBy struct {
	daemon protocol.DaemonID
	event  string
}

type statistics struct{ steps, published, sent, acked, repeats, catchUps, deadLetters, crashes, rollbacks int }

func newWorld(seed uint64, m mistake) *world {
	w := &world{
		r: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1_000_000, 0), mistake: m,
		records: map[event.Token]versioned{}, acked: map[string]bool{}, ackedBy: map[ackedBy]bool{}, deadLettered: map[string]bool{},
		vain: map[string]int{}, flushedAcks: map[flushedAck]int{}, settled: map[settledFor]bool{}, connectedView: map[protocol.DaemonID]bool{}, edgesView: map[string]bool{},
	}
	w.temper, w.hints = pickOf(w, even, restless, slow, rolledBack), pickOf(w, 0, .7, 1)
	w.log.epoch = eventlog.NewEpoch(time.Unix(1, 0), 0)
	w.log.announced = w.log.epoch
	for i := range pickOf(w, 1, 1, 2, 3) {
		w.tokens = append(w.tokens, event.Token(fmt.Sprintf("o%d", i)))
	}
	for i := range w.tokens {
		for range 1 + w.r.IntN(3) {
			w.daemons = append(w.daemons, newDaemon(w, w.tokens[i]))
		}
	}
	for range 2 {
		w.startEdge()
	}
	w.startRouter()
	return w
}

// fail keeps the first violation.
func (w *world) fail(format string, args ...any) {
	if w.fault == nil {
		w.fault = fmt.Errorf(format, args...)
	}
}

func (w *world) chance(p float64) bool { return w.r.Float64() < p }

func pick[T any](w *world, from []T) (T, bool) {
	if len(from) == 0 {
		var none T
		return none, false
	}
	return from[w.r.IntN(len(from))], true
}

// eventLog is one partition: what is stored, and what publishers meant.
type eventLog struct {
	epoch eventlog.Epoch
	// announced is the epoch that anybody can know: after a rollback it is the one
	// before, until a router has found out.
	announced eventlog.Epoch
	cut       uint64 // where the last rollback led
	counter   uint64
	stored    []stored // in order of sequence, retained ones only
	last      uint64
}

type stored struct {
	eventlog.Message
	event event.Event
	// must: somebody who is still around had asked for it before it came.
	must    bool
	wanting []*daemon
}

func (w *world) publish() {
	token, _ := pick(w, w.tokens)
	w.stats.published++
	e := event.Event{
		ID: fmt.Sprintf("e%d", w.stats.published), OrchestratorID: protocol.OrchestratorID(token),
		Type: protocol.EventType(pickOf(w, "a.x", "b.x")), RequiresAck: w.chance(.8), Payload: []byte(`{}`),
	}
	var wanting []*daemon
	for _, d := range w.daemons {
		if d.token == token && d.started {
			wanting = append(wanting, d)
		}
	}
	if d, ok := pick(w, wanting); ok && w.chance(.15) {
		e.DaemonID = d.id
	}
	must := e.RequiresAck && slices.ContainsFunc(wanting, func(d *daemon) bool {
		return d.wants(e.Type) && (e.DaemonID == "" || e.DaemonID == d.id && !d.fresh)
	})
	body, err := e.MarshalJSON()
	if err != nil {
		panic(err)
	}
	if w.chance(.03) {
		body, must = []byte(`{"not":"an event"}`), false
	}
	w.log.last++
	m := eventlog.Message{Token: token, Sequence: w.log.last, Stored: w.now.Add(time.Duration(w.stats.published)), Body: body}
	w.log.stored = append(w.log.stored, stored{Message: m, event: e, must: must, wanting: wanting})
	w.log.evict(token)
}

func pickOf[T any](w *world, from ...T) T {
	v, _ := pick(w, from)
	return v
}

func (l *eventLog) evict(token event.Token) {
	n := 0
	for _, s := range l.stored {
		if s.Token == token {
			n++
		}
	}
	if n > keep {
		i := slices.IndexFunc(l.stored, func(s stored) bool { return s.Token == token })
		l.stored = slices.Delete(l.stored, i, i+1)
	}
}

// rollBack restores the log to an earlier state: sequences will be used again.
// Routers that run see that at once; where all of them were stopped gracefully,
// and so had seen all of it, the next one has to, however it has grown
// meanwhile.
func (w *world) rollBack() {
	w.stats.rollbacks++
	var newest stored
	if n := len(w.log.stored); n > 0 {
		newest = w.log.stored[n-1]
	}
	stopped := w.log.announced == w.log.epoch && w.checkpoint.epoch == w.log.epoch && newest.Sequence == w.log.last && w.chance(.7)
	if stopped {
		w.checkpoint.seen = eventlog.Mark{Sequence: newest.Sequence, Stored: newest.Stored}
	}
	w.log.last -= min(w.log.last, uint64(1+w.r.IntN(8)))
	w.log.cut = w.log.last
	w.log.stored = slices.DeleteFunc(w.log.stored, func(s stored) bool { return s.Sequence > w.log.last })
	w.log.counter++
	w.log.epoch = eventlog.NewEpoch(time.Unix(1, 0), w.log.counter)
	w.routers = nil // their consumers fail; new ones find the epoch
	if !stopped {
		w.log.announced = w.log.epoch
		w.startRouter()
	}
}

// evidence is what the log's leader says about a mark.
func (l *eventLog) evidence(m eventlog.Mark) eventlog.Evidence {
	e := eventlog.Evidence{Last: l.last}
	for _, s := range l.stored {
		if s.Sequence == m.Sequence {
			e.At = s.Stored
		}
		if e.Later == 0 && s.Stored.After(m.Stored) {
			e.Later = s.Sequence
		}
	}
	return e
}

// replica is how far the replica that happens to answer has come.
func (w *world) replica() uint64 {
	return w.log.last - min(w.log.last, pickOf(w, uint64(0), 0, 0, 1, 2, 5))
}

func (l *eventLog) of(token event.Token, from, upTo uint64) []eventlog.Message {
	var out []eventlog.Message
	for _, s := range l.stored {
		if s.Token == token && s.Sequence >= from && s.Sequence <= upTo {
			out = append(out, s.Message)
		}
	}
	return out
}
