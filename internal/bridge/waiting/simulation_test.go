package waiting

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// machine is what the simulation drives: a List, or one with a mistake.
type machine interface {
	Waits(protocol.OrchestratorID) bool
	Join(protocol.OrchestratorID)
	Turn(id protocol.OrchestratorID, known, ahead bool) Verdict
	Stored(protocol.OrchestratorID)
	NotStored(protocol.OrchestratorID)
	Leave(protocol.OrchestratorID)
	Release(protocol.OrchestratorID) bool
	Quiet(protocol.OrchestratorID) bool
	Finish(protocol.OrchestratorID, bool)
	Listing() uint64
	Listed(uint64, map[protocol.OrchestratorID]struct{})
	Len() int
}

// world is a bridge as far as one addressee sees it: lanes with one event in
// flight each, the stream, the log, its own releaser and another bridge's. An
// event is its number; the log and the stream keep the first of each.
type world struct {
	random  *rand.Rand
	machine machine
	id      protocol.OrchestratorID

	heard   int
	exists  bool // Neolith has the orchestrator
	cached  bool // and the bridge knows
	toAsk   []int
	asking  bool
	toKeep  []int
	storing bool
	toLog   []int
	stream  []int
	log     []int
	dropped map[int]bool

	mine, other releaser
	releasing   bool
	listing     uint64
	listed      map[protocol.OrchestratorID]struct{}
}

// releaser is one that is at work: what it has read, and up to where it is done.
type releaser struct {
	read  []int
	quiet bool
}

func (w *world) step() {
	switch w.random.IntN(12) {
	case 0, 1, 2:
		w.toAsk = append(w.toAsk, w.heard)
		w.heard++
	case 3, 4:
		w.ask()
	case 5, 6:
		w.keep()
	case 7, 8:
		if len(w.toLog) > 0 {
			w.log = first(w.log, w.toLog[0])
			w.toLog = w.toLog[1:]
		}
	case 9:
		w.release()
	case 10:
		w.releaseElsewhere()
	case 11:
		w.rare()
	}
}

func (w *world) rare() {
	switch w.random.IntN(8) {
	case 0:
		w.exists = true
	case 1:
		w.cached = false // forgotten
	case 2:
		if len(w.toKeep) > 0 && !w.storing {
			w.dropped[w.toKeep[0]] = true // the buffer is full
			w.toKeep = w.toKeep[1:]
			w.machine.Leave(w.id)
		}
	default:
		w.list()
	}
}

// ask is the lane in which events get their orchestrator.
func (w *world) ask() {
	if len(w.toAsk) == 0 {
		return
	}
	waits := w.machine.Waits(w.id)
	if !w.asking && !waits && !w.cached {
		w.asking = true
		return
	}
	w.cached = w.cached || w.asking && w.exists && w.random.IntN(4) > 0
	w.asking = false
	if (waits || !w.cached) && len(w.toLog) > 0 {
		return // the bridge lets those before it come into the log first
	}
	n := w.toAsk[0]
	w.toAsk = w.toAsk[1:]
	if waits || !w.cached {
		w.machine.Join(w.id)
		w.toKeep = append(w.toKeep, n)
		return
	}
	w.toLog = append(w.toLog, n)
}

// keep is the lane of events that go into the stream.
func (w *world) keep() {
	if len(w.toKeep) == 0 {
		return
	}
	n := w.toKeep[0]
	if w.storing {
		w.storing = false
		switch w.random.IntN(4) {
		case 0:
			w.machine.NotStored(w.id)
		case 1: // only the answer is lost
			w.stream = first(w.stream, n)
			w.machine.NotStored(w.id)
		default:
			w.stream = first(w.stream, n)
			w.machine.Stored(w.id)
			w.toKeep = w.toKeep[1:]
		}
		return
	}
	switch w.machine.Turn(w.id, w.cached, len(w.toLog) > 0) {
	case Store:
		w.storing = true
	case Direct:
		w.toLog = append(w.toLog, n)
		w.toKeep = w.toKeep[1:]
	}
}

// release is a step of the bridge's own releaser.
func (w *world) release() {
	if !w.releasing {
		w.cached = w.cached || w.exists && w.machine.Waits(w.id)
		w.releasing = w.cached && w.machine.Release(w.id)
		w.mine = releaser{}
		return
	}
	switch {
	case w.random.IntN(10) == 0: // it fails, after some of its work or before
		w.machine.Finish(w.id, false)
		w.releasing = false
	case len(w.mine.read) > 0:
		w.move(&w.mine)
	default:
		quiet := w.mine.quiet
		w.mine = releaser{read: slices.Clone(w.stream), quiet: w.machine.Quiet(w.id)}
		if len(w.mine.read) == 0 && quiet {
			w.machine.Finish(w.id, true)
			w.releasing = false
		}
	}
}

func (w *world) releaseElsewhere() {
	if !w.exists {
		return
	}
	if len(w.other.read) == 0 {
		w.other.read = slices.Clone(w.stream)
		return
	}
	w.move(&w.other)
	if w.random.IntN(10) == 0 {
		w.other.read = nil // that bridge is killed
	}
}

// move publishes the next event, and removes it unless it dies between.
func (w *world) move(r *releaser) {
	n := r.read[0]
	r.read = r.read[1:]
	w.log = first(w.log, n)
	if w.random.IntN(5) > 0 {
		w.stream = slices.DeleteFunc(w.stream, func(m int) bool { return m <= n && slices.Contains(w.log, m) })
	}
}

// list compares with the stream as it was at some time in between.
func (w *world) list() {
	switch {
	case w.listing == 0:
		w.listing = w.machine.Listing()
		w.listed = nil
	case w.listed == nil:
		w.listed = map[protocol.OrchestratorID]struct{}{}
		if len(w.stream) > 0 {
			w.listed[w.id] = struct{}{}
		}
	default:
		w.machine.Listed(w.listing, w.listed)
		w.listing = 0
	}
}

func first(list []int, n int) []int {
	if slices.Contains(list, n) {
		return list
	}
	return append(list, n)
}

func (w *world) check(final bool) error {
	if !slices.IsSorted(w.log) {
		return fmt.Errorf("the log holds %v", w.log)
	}
	if !final {
		return nil
	}
	if want := w.heard - len(w.dropped); len(w.log) < want {
		return fmt.Errorf("of %d events the log holds %v; dropped %v", w.heard, w.log, slices.Collect(maps.Keys(w.dropped)))
	}
	if n := w.machine.Len(); n != 0 {
		return fmt.Errorf("%d addressees are still waited for", n)
	}
	return nil
}

// simulate takes random steps, then lets everything go well.
func simulate(seed uint64, m machine) (*world, error) {
	w := &world{random: rand.New(rand.NewPCG(seed, 1)), machine: m, id: "user", dropped: map[int]bool{}}
	for range 400 {
		w.step()
		if err := w.check(false); err != nil {
			return w, err
		}
	}
	w.exists, w.cached = true, true
	for range 20_000 {
		switch w.random.IntN(5) {
		case 0:
			w.ask()
		case 1:
			w.keep()
		case 2:
			w.release()
		case 3:
			w.list()
		case 4:
			if len(w.toLog) > 0 {
				w.log = first(w.log, w.toLog[0])
				w.toLog = w.toLog[1:]
			}
		}
		if err := w.check(false); err != nil {
			return w, err
		}
		if w.idle() && w.check(true) == nil {
			return w, nil
		}
	}
	return w, w.check(true)
}

func (w *world) idle() bool {
	return len(w.toAsk)+len(w.toKeep)+len(w.toLog)+len(w.stream) == 0 && !w.releasing && w.machine.Len() == 0
}

// TestSimulation: whatever fails, and whoever else is at the stream, the events
// come into the log in the order in which they were heard, none is lost, and in
// the end nobody is waited for.
func TestSimulation(t *testing.T) {
	t.Parallel()
	for seed := range budget.Runs[uint64](500, 50_000) {
		_, err := simulate(seed, New())
		require.NoError(t, err, "seed %d", seed)
	}
}

// The mistakes below are each a List with one method gone wrong.
type (
	forgetsWhoWaits     struct{ *List }
	holdsNothing        struct{ *List }
	looksNotAtTheStream struct{ *List }
	alwaysEmpty         struct{ *List }
	believesOldListings struct{ *List }
	believesFailures    struct{ *List }
)

func (m forgetsWhoWaits) Waits(protocol.OrchestratorID) bool { return false }

func (m holdsNothing) Turn(id protocol.OrchestratorID, known, ahead bool) Verdict {
	verdict := m.List.Turn(id, known, ahead)
	if verdict == Hold {
		m.Leave(id)
		return Direct
	}
	return verdict
}

func (m looksNotAtTheStream) Turn(id protocol.OrchestratorID, known, ahead bool) Verdict {
	if known {
		m.Leave(id)
		return Direct
	}
	return m.List.Turn(id, known, ahead)
}

func (m alwaysEmpty) Finish(id protocol.OrchestratorID, _ bool) { m.List.Finish(id, true) }

func (m believesOldListings) Listed(_ uint64, ids map[protocol.OrchestratorID]struct{}) {
	m.List.Listed(^uint64(0), ids)
}

func (m believesFailures) NotStored(id protocol.OrchestratorID) { m.addressees[id].storing-- }

// TestSimulationCatchesMistakes shows that the simulation is worth something.
func TestSimulationCatchesMistakes(t *testing.T) {
	t.Parallel()
	for name, mistaken := range map[string]func() machine{
		"a newer event does not look who waits":          func() machine { return forgetsWhoWaits{New()} },
		"an event goes on while older ones are released": func() machine { return holdsNothing{New()} },
		"an event goes on though older ones are stored":  func() machine { return looksNotAtTheStream{New()} },
		"a release that failed counts as done":           func() machine { return alwaysEmpty{New()} },
		"a listing hides what was stored since":          func() machine { return believesOldListings{New()} },
		"what was stored without an answer is not there": func() machine { return believesFailures{New()} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2000) {
				if _, err := simulate(seed, mistaken()); err != nil {
					t.Log(err)
					return
				}
			}
			require.Fail(t, "the simulation does not notice")
		})
	}
}
