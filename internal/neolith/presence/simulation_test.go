package presence

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var (
	flagSeed = flag.Uint64("seed", 1, "seed of the first run; each run's is one higher")
	flagRuns = flag.Int("runs", budget.Runs(1000, 30_000), "how many runs")
)

// world is some routers that believe at times that they own the same partition,
// learn of connections late, and write to a database that fails before or
// after it has done what it was asked.
type world struct {
	random *rand.Rand
	now    time.Time

	connected map[event.Token]bool
	// The database.
	term  Term
	shown statuses
	vps   statuses

	routers []*router
}

type router struct {
	tracker *tracker
	owns    bool
	knows   map[event.Token]bool
	news    []event.Token // of whom the state has changed
	pending []Change      // taken, and not yet written
}

var crowd = []event.Token{"a", "b", "c", "d", "e", "f"}

func newWorld(seed uint64) *world {
	w := &world{
		random: rand.New(rand.NewPCG(seed, 7)), now: start, connected: make(map[event.Token]bool),
		shown: make(statuses), vps: make(statuses),
	}
	for range 3 {
		w.routers = append(w.routers, &router{tracker: newTracker(grace, 3), knows: make(map[event.Token]bool)})
	}
	return w
}

func (w *world) step() {
	r := w.routers[w.random.IntN(len(w.routers))]
	o := crowd[w.random.IntN(len(crowd))]
	switch w.random.IntN(12) {
	case 0, 1:
		w.change(o)
	case 2, 3, 4:
		w.learn(r)
	case 5, 6:
		w.now = w.now.Add(time.Duration(w.random.IntN(5000)) * time.Millisecond)
		r.tracker.tick(w.now)
	case 7:
		said := []protocol.Status{protocol.StatusActive, protocol.StatusIdle, protocol.StatusBusy}[w.random.IntN(3)]
		for _, r := range w.routers {
			r.tracker.beat(part, o, said)
		}
	case 8:
		if w.random.IntN(4) == 0 {
			w.own(r, !r.owns)
		}
	case 9:
		w.load(r)
	case 10:
		r.pending = r.tracker.changes(1 + w.random.IntN(4))
	case 11:
		w.write(r)
	}
}

func (w *world) change(o event.Token) {
	w.connected[o] = !w.connected[o]
	for _, r := range w.routers {
		r.news = append(r.news, o)
	}
}

// learn brings a router the oldest news, as the present state.
func (w *world) learn(r *router) {
	if len(r.news) == 0 {
		return
	}
	o := r.news[0]
	r.news = r.news[1:]
	r.knows[o] = w.connected[o]
	if w.connected[o] {
		r.tracker.connect(part, o)
	} else {
		r.tracker.disconnect(part, o, w.now)
	}
}

func (w *world) own(r *router, owns bool) {
	r.owns, r.pending = owns, nil
	if !owns {
		r.tracker.end(part)
		return
	}
	var connected []event.Token
	for o, is := range r.knows {
		if is {
			connected = append(connected, o)
		}
	}
	r.tracker.begin(part, connected)
}

func (w *world) load(r *router) {
	if len(r.tracker.wanting(w.now)) > 0 {
		w.term++ // also if the answer gets lost
		if w.random.IntN(4) > 0 {
			r.tracker.load(part, w.term, maps.Clone(w.shown), w.now)
		}
	}
}

func (w *world) write(r *router) {
	batch := r.pending
	r.pending = nil
	if len(batch) == 0 || w.random.IntN(5) == 0 {
		return // failed
	}
	if batch[0].Term != w.term {
		r.tracker.lose(part, w.now.Add(retake))
		return
	}
	for _, c := range batch {
		w.vps[c.Orchestrator], w.shown[c.Orchestrator] = c.Status, c.Status
		if c.Status == Gone {
			delete(w.shown, c.Orchestrator)
		}
	}
	if w.random.IntN(5) == 0 {
		return // done, and nobody was told
	}
	for _, c := range batch {
		r.tracker.written(c)
	}
}

// settle has one router own the partition, everybody know everything, and
// enough time pass.
func (w *world) settle() {
	for i, r := range w.routers {
		for len(r.news) > 0 {
			w.learn(r)
		}
		if r.owns != (i == 0) {
			w.own(r, i == 0)
		}
	}
	w.pass(200)
}

// pass lets seconds pass in which nothing but time happens.
func (w *world) pass(seconds int) {
	for range seconds {
		w.now = w.now.Add(time.Second)
		for _, r := range w.routers {
			r.tracker.tick(w.now)
			w.load(r)
			r.pending = r.tracker.changes(100)
			w.write(r)
		}
	}
}

// TestPresenceBecomesTrue drives routers that disagree, and checks that the
// database ends at the truth, whatever happened before. The mistakes that it
// was seen to find: a writer whose term is over is let write; gone without looking whether somebody
// came back; a change whose outcome nobody heard of taken for not written; the
// gone forgotten without a new load.
func TestPresenceBecomesTrue(t *testing.T) {
	t.Parallel()
	for seed := *flagSeed; seed < *flagSeed+uint64(*flagRuns); seed++ {
		w := newWorld(seed)
		for range 400 {
			w.step()
		}
		w.settle()
		story := fmt.Sprintf("go test ./internal/neolith/presence -run BecomesTrue -args -runs 1 -seed %d", seed)
		for _, o := range crowd {
			if w.connected[o] {
				require.Contains(t, []Status{Online, Away, Busy}, w.vps[o], "%s: %s is connected", story, o)
			} else {
				require.Contains(t, []Status{"", Gone}, w.vps[o], "%s: %s is not connected", story, o)
			}
		}
		r := w.routers[0]
		require.Empty(t, r.tracker.changes(10), "%s: nothing is left to write", story)
		for _, o := range crowd {
			r.tracker.beat(part, o, protocol.StatusBusy)
		}
		w.pass(100) // only now it may notice that it has lost its term
		for o, is := range w.connected {
			require.Equal(t, is, w.vps[o] == Busy, "%s: %s after its heartbeat", story, o)
		}
	}
}
