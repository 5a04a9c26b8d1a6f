package lane

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/budget"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// mistakes are ways to build the lane wrongly. The simulation must refute each.
type mistakes struct {
	horizonStays     bool // forgetting does not raise what is said of the forgotten
	followsSends     bool // the checkpoint does not wait for receipts
	sharedConsumer   bool // two lanes share what one consumer yields
	missedIsDropped  bool // a missed batch leaves no hints
	queuedIsNotNoted bool // events that nobody holds are not remembered
	refusedIsPassed  bool // the checkpoint does not wait for the dead letters
	goneIsForgotten  bool // an edge that is gone releases what it holds again
}

func TestSimulationFindsNoViolation(t *testing.T) {
	t.Parallel()
	for seed := range budget.Runs[uint64](300, 10_000) {
		require.NoError(t, simulate(seed, 1500, mistakes{}), "seed %d", seed)
	}
}

func TestSimulationRefutesMistakes(t *testing.T) {
	t.Parallel()
	cases := map[string]mistakes{
		"horizon stays":       {horizonStays: true},
		"follows sends":       {followsSends: true},
		"shared consumer":     {sharedConsumer: true},
		"missed is dropped":   {missedIsDropped: true},
		"queued is not noted": {queuedIsNotNoted: true},
		"refused is passed":   {refusedIsPassed: true},
		"gone is forgotten":   {goneIsForgotten: true},
	}
	for name, m := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var found error
			for seed := uint64(0); seed < 300 && found == nil; seed++ {
				found = simulate(seed, 1500, m)
			}
			require.Error(t, found)
		})
	}
}

// The simulated cluster: two lanes of one partition, each with a directory of
// its own, and three edges that are silent, away or forgetful at random.
type world struct {
	r          *rand.Rand
	now        time.Time
	wrong      mistakes
	log        []record
	tokens     []event.Token
	edges      []string
	runs       []*run
	checkpoint uint64
	shared     uint64
}

type record struct {
	token   event.Token
	invalid bool
}

// run is a lane and what surrounds it.
type run struct {
	lane   *Lane
	start  uint64
	fed    uint64
	holds  map[event.Token][]string
	news   []func()
	sends  []Send
	late   []BatchID
	stores []uint64
	owed   map[debt]bool // what holds the checkpoint
	hints  map[claim]uint64
	silent map[string]bool
}

type debt struct {
	sequence uint64
	edge     string // "" for the dead letters
}

type claim struct {
	token event.Token
	edge  string
}

const simMemory, simInflight = 3, 2

func simulate(seed uint64, steps int, wrong mistakes) error {
	w := &world{
		r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), wrong: wrong,
		tokens: []event.Token{"a", "b", "c", "d", "e", "f"}, edges: []string{"x", "y", "z"},
	}
	w.startRun()
	for range steps {
		if err := w.step(); err != nil {
			return err
		}
	}
	return w.settle()
}

func (w *world) startRun() {
	n := &run{
		start: w.checkpoint, fed: w.checkpoint, holds: map[event.Token][]string{}, owed: map[debt]bool{},
		hints: map[claim]uint64{}, silent: map[string]bool{},
	}
	n.lane = New(Config{
		Start: w.checkpoint, Now: w.now, Memory: simMemory, Inflight: simInflight,
		Holders: func(dst []string, o event.Token) []string { return append(dst, n.holds[o]...) },
		Check: func(m eventlog.Message) error {
			if w.log[m.Sequence-1].invalid {
				return errors.New("invalid")
			}
			return nil
		},
	})
	w.runs = append(w.runs, n)
}

func (w *world) step() error {
	w.now = w.now.Add(time.Duration(w.r.IntN(300)) * time.Millisecond)
	var n *run
	if len(w.runs) > 0 {
		n = w.runs[w.r.IntN(len(w.runs))]
	}
	switch k := w.r.IntN(1000); {
	case k < 250:
		w.publish()
	case k < 255 && len(w.runs) < 2 || n == nil:
		w.startRun()
	case k < 258:
		w.runs = slices.DeleteFunc(w.runs, func(o *run) bool { return o == n })
	case k < 500:
		w.feed(n)
	case k < 560:
		w.addClaim(n)
	case k < 590:
		w.dropClaim(n)
	case k < 600:
		w.loseEdge(n)
	case k < 640:
		n.hear(w.r)
	case k < 660:
		edge := pick(w.r, w.edges)
		n.silent[edge] = !n.silent[edge]
	case k < 860:
		w.answer(n)
	case k < 900:
		w.storeDeadLetter(n)
	case k < 940:
		n.lane.Flush()
	case k < 990:
		n.lane.Tick(w.now)
	default:
		w.checkpoint = n.lane.Checkpoint()
	}
	return w.check()
}

func (w *world) publish() {
	token := pick(w.r, w.tokens)
	if w.r.IntN(50) == 0 {
		token = Sentinel
	}
	w.log = append(w.log, record{token: token, invalid: w.r.IntN(20) == 0})
}

func (w *world) feed(n *run) {
	next := &n.fed
	if w.wrong.sharedConsumer {
		next = &w.shared
	}
	if *next >= uint64(len(w.log)) || n.lane.Hold() > 0 {
		return
	}
	*next++
	m := eventlog.Message{Token: w.log[*next-1].token, Sequence: *next}
	before, known := n.lane.memory.get2(m.Token)
	switch n.lane.Event(m) {
	case Routed:
		for _, edge := range n.holds[m.Token] {
			n.owed[debt{m.Sequence, edge}] = true
		}
	case Refused:
		n.owed[debt{m.Sequence, ""}] = true
	case Queued:
		if w.wrong.queuedIsNotNoted && known {
			n.lane.memory.entries[n.lane.memory.index[m.Token]].last = before
		}
	}
	if w.wrong.horizonStays {
		n.lane.memory.horizon = n.start
	}
}

func (m *memory) get2(token event.Token) (uint64, bool) {
	last, _, ok := m.get(token)
	return last, ok
}

func (w *world) addClaim(n *run) {
	token, edge := pick(w.r, w.tokens), pick(w.r, w.edges)
	if !slices.Contains(n.holds[token], edge) {
		n.holds[token] = append(n.holds[token], edge)
	}
	n.news = append(n.news, func() {
		last, seen, ok := n.lane.memory.get(token)
		n.lane.ClaimAdded(token, edge)
		if ok && n.lane.now.Sub(seen) < DefaultHintAge && slices.Contains(n.holds[token], edge) {
			n.hints[claim{token, edge}] = last
		}
	})
}

func (w *world) dropClaim(n *run) {
	token, edge := pick(w.r, w.tokens), pick(w.r, w.edges)
	n.letGo(w, edge, token)
}

// letGo ends what the lane owes the edge for the orchestrator.
func (n *run) letGo(w *world, edge string, token event.Token) {
	n.holds[token] = slices.DeleteFunc(slices.Clone(n.holds[token]), func(e string) bool { return e == edge })
	for d := range n.owed {
		if d.edge == edge && w.log[d.sequence-1].token == token {
			delete(n.owed, d)
		}
	}
	delete(n.hints, claim{token, edge})
}

// loseEdge takes an edge out of the directory. The lane may hear of it late,
// when the edge has come back.
func (w *world) loseEdge(n *run) {
	edge := pick(w.r, w.edges)
	for _, token := range w.tokens {
		n.letGo(w, edge, token)
	}
	n.news = append(n.news, func() {
		n.lane.EdgeGone(edge)
		if w.wrong.goneIsForgotten {
			n.lane.outboxes = slices.DeleteFunc(n.lane.outboxes, func(o *outbox) bool { return o.edge == edge })
		}
	})
}

func (n *run) hear(r *rand.Rand) {
	if len(n.news) > 0 {
		n.news[0]()
		n.news = n.news[1:]
	}
	if len(n.late) > 0 {
		i := r.IntN(len(n.late))
		n.lane.Receipt(n.late[i], Received)
		n.late = slices.Delete(n.late, i, i+1)
	}
}

// answer decides the fate of one batch in flight, in any order.
func (w *world) answer(n *run) {
	if len(n.sends) == 0 {
		return
	}
	i := w.r.IntN(len(n.sends))
	s := n.sends[i]
	n.sends = slices.Delete(n.sends, i, i+1)
	outcome := Received
	switch k := w.r.IntN(100); {
	case k < 5:
		outcome = NoResponders
	case k < 15 || n.silent[s.Edge]:
		outcome = TimedOut
	case k < 25: // received, and the receipt lost or late
		n.receive(w, s)
		outcome = TimedOut
		if k < 20 {
			n.late = append(n.late, s.ID)
		}
	default:
		n.receive(w, s)
	}
	n.lane.Receipt(s.ID, outcome)
	if w.wrong.missedIsDropped && outcome != Received && n.lane.inflight[s.ID] == nil {
		if j := n.lane.find(s.Edge); j >= 0 {
			n.lane.outboxes[j].hints = hintQueue{}
		}
	}
}

func (n *run) receive(w *world, s Send) {
	for _, e := range s.Batch.Events {
		delete(n.owed, debt{e.Sequence, s.Edge})
	}
	for _, h := range s.Batch.Hints {
		for d := range n.owed {
			if d.edge == s.Edge && w.log[d.sequence-1].token == h.Token && d.sequence <= h.Sequence {
				delete(n.owed, d)
			}
		}
		if c := (claim{h.Token, s.Edge}); n.hints[c] <= h.Sequence {
			delete(n.hints, c)
		}
	}
}

func (w *world) storeDeadLetter(n *run) {
	if len(n.stores) == 0 {
		return
	}
	sequence := n.stores[0]
	n.stores = n.stores[1:]
	stored := w.r.IntN(3) > 0
	if stored {
		delete(n.owed, debt{sequence, ""})
	}
	n.lane.DeadLettered(sequence, stored)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
