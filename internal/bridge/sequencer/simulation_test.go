package sequencer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
)

// machine is what the simulation drives: a Sequencer, or one with a mistake.
type machine interface {
	Add(lane string, value message, size int) []message
	Next(now time.Time) (Ticket[message], bool)
	WakeAt() (time.Time, bool)
	Done(Ticket[message])
	Retry(Ticket[message], time.Time)
	Move(t Ticket[message], lane string, value message, size int)
	Len() int
	Waiting() int
	InFlight() int
}

type message struct {
	lane   string
	number int
}

var simConfig = Config{
	Window: 4, MaxWaiting: 12, MaxBytes: 60, Free: isFree,
	Delay: func(n int) time.Duration { return time.Duration(n) * time.Second },
}

func isFree(lane string) bool { return lane == "lane-0" || lane == "lane-1" }

// world is the simulation's own account of what must be so.
type world struct {
	random  *rand.Rand
	machine machine
	now     time.Time
	numbers int
	// expected is each lane's messages in the order in which they must be started.
	expected map[string][]message
	flying   []Ticket[message]
	notUntil map[string]time.Time
	sizes    map[message]int
	added    int
	settled  int
	dropped  int
}

func newWorld(seed uint64, m machine) *world {
	return &world{
		random: rand.New(rand.NewPCG(seed, 1)), machine: m, now: time.Unix(0, 0),
		expected: map[string][]message{}, notUntil: map[string]time.Time{}, sizes: map[message]int{},
	}
}

// step does one random thing and checks what can be checked at once.
func (w *world) step() error {
	var err error
	switch w.random.IntN(6) {
	case 0, 1:
		err = w.add()
	case 2, 3:
		err = w.answer(false)
	case 4:
		w.now = w.now.Add(time.Duration(w.random.IntN(1500)) * time.Millisecond)
	case 5:
		err = w.start()
	}
	if err != nil {
		return err
	}
	return w.checkBounds()
}

func (w *world) add() error {
	m := message{lane: fmt.Sprintf("lane-%d", w.random.IntN(8)), number: w.numbers}
	w.numbers++
	w.added++
	size := 1 + w.random.IntN(9)
	w.sizes[m] = size
	before := w.machine.Waiting()
	w.expected[m.lane] = append(w.expected[m.lane], m)
	asking, askingBytes := w.asking()
	dropped := w.machine.Add(m.lane, m, size)
	if len(dropped) > 0 && before+asking < simConfig.MaxWaiting && w.waitingBytes()+askingBytes <= simConfig.MaxBytes {
		return fmt.Errorf("dropped %v although within the bounds", dropped)
	}
	for _, d := range dropped {
		// Of a lane, only the oldest that waits may be dropped.
		if q := w.expected[d.lane]; len(q) == 0 || q[0] != d {
			return fmt.Errorf("dropped %v, but the oldest of its lane is %v", d, q)
		}
		w.expected[d.lane] = w.expected[d.lane][1:]
		w.dropped++
	}
	return nil
}

// waitingBytes is what would wait if nothing were dropped.
func (w *world) waitingBytes() int {
	sum := 0
	for _, queue := range w.expected {
		for _, m := range queue {
			sum += w.sizes[m]
		}
	}
	return sum
}

// asking is what is in flight of free lanes.
func (w *world) asking() (messages, bytes int) {
	for _, t := range w.flying {
		if isFree(t.Value().lane) {
			messages++
			bytes += w.sizes[t.Value()]
		}
	}
	return messages, bytes
}

func (w *world) start() error {
	for {
		t, ok := w.machine.Next(w.now)
		if !ok {
			return w.checkIdle()
		}
		m := t.Value()
		if slices.ContainsFunc(w.flying, func(o Ticket[message]) bool { return o.Value().lane == m.lane }) {
			return fmt.Errorf("two of %s are in flight", m.lane)
		}
		if q := w.expected[m.lane]; len(q) == 0 || q[0] != m {
			return fmt.Errorf("started %v, next of its lane is %v", m, q)
		}
		if until := w.notUntil[m.lane]; w.now.Before(until) {
			return fmt.Errorf("%v was tried again %v too early", m, until.Sub(w.now))
		}
		w.expected[m.lane] = w.expected[m.lane][1:]
		w.flying = append(w.flying, t)
	}
}

// checkIdle checks that nothing was held back without a reason.
func (w *world) checkIdle() error {
	asking, _ := w.asking()
	full := len(w.flying)-asking >= simConfig.Window
	for name, queue := range w.expected {
		if full && !isFree(name) {
			continue
		}
		busy := slices.ContainsFunc(w.flying, func(o Ticket[message]) bool { return o.Value().lane == name })
		late := w.now.Before(w.notUntil[name])
		if len(queue) > 0 && !busy && !late {
			return fmt.Errorf("%s has %d messages to start and stands still", name, len(queue))
		}
		if wake, ok := w.machine.WakeAt(); len(queue) > 0 && !busy && late && (!ok || wake.After(w.notUntil[name])) {
			return fmt.Errorf("%s is due at %v, the wake-up is %v (%v)", name, w.notUntil[name], wake, ok)
		}
	}
	return nil
}

func (w *world) answer(settle bool) error {
	if len(w.flying) == 0 {
		return nil
	}
	i := w.random.IntN(len(w.flying))
	t := w.flying[i]
	w.flying = slices.Delete(w.flying, i, i+1)
	m := t.Value()
	switch what := w.random.IntN(10); {
	case settle || what < 5:
		w.settled++
		w.notUntil[m.lane] = time.Time{}
		w.machine.Done(t)
	case what < 9:
		w.notUntil[m.lane] = w.now.Add(simConfig.Delay(t.Failures() + 1))
		w.expected[m.lane] = slices.Insert(w.expected[m.lane], 0, m)
		w.machine.Retry(t, w.now)
	default:
		w.notUntil[m.lane] = time.Time{}
		moved := message{lane: fmt.Sprintf("lane-%d", w.random.IntN(8)), number: w.numbers}
		w.numbers++
		w.sizes[moved] = 1
		w.expected[moved.lane] = append(w.expected[moved.lane], moved)
		w.machine.Move(t, moved.lane, moved, 1)
	}
	return nil
}

func (w *world) checkBounds() error {
	asking, _ := w.asking()
	if n := w.machine.InFlight(); n != len(w.flying)-asking || n > simConfig.Window {
		return fmt.Errorf("%d in flight, expected %d, at most %d", n, len(w.flying)-asking, simConfig.Window)
	}
	if n := w.machine.Len(); n > simConfig.MaxWaiting+simConfig.Window {
		return fmt.Errorf("%d are held, expected at most %d", n, simConfig.MaxWaiting+simConfig.Window)
	}
	return nil
}

// finish lets everything succeed and checks that all that was added has ended.
func (w *world) finish() error {
	for range 1000 {
		if err := w.start(); err != nil {
			return err
		}
		for len(w.flying) > 0 {
			if err := w.answer(true); err != nil {
				return err
			}
		}
		w.now = w.now.Add(time.Hour)
	}
	if w.machine.Len() != 0 || w.settled+w.dropped != w.added {
		return fmt.Errorf("added %d, settled %d, dropped %d, still held %d", w.added, w.settled, w.dropped, w.machine.Len())
	}
	return nil
}

func simulate(seed uint64, steps int, m machine) (*world, error) {
	w := newWorld(seed, m)
	for i := range steps {
		if err := w.step(); err != nil {
			return w, fmt.Errorf("seed %d, step %d: %w", seed, i, err)
		}
	}
	if err := w.finish(); err != nil {
		return w, fmt.Errorf("seed %d, at the end: %w", seed, err)
	}
	return w, nil
}

// TestSimulation drives the sequencer with random messages, results and times:
// order within each lane, one in flight of each, bounds, nothing lost.
func TestSimulation(t *testing.T) {
	t.Parallel()
	settled, dropped := 0, 0
	for seed := range budget.Runs[uint64](300, 10_000) {
		w, err := simulate(seed, 2000, New[message](simConfig))
		require.NoError(t, err)
		settled += w.settled
		dropped += w.dropped
		require.Empty(t, w.machine.(*Sequencer[message]).lanes, "seed %d: lanes are left over", seed)
	}
	require.Positive(t, settled)
	require.Positive(t, dropped, "the simulation must reach the bounds")
}

// The mistakes below are each a Sequencer with one method gone wrong.
type (
	retriesAtTheTail    struct{ *Sequencer[message] }
	forgetsFailures     struct{ *Sequencer[message] }
	retriesAtOnce       struct{ *Sequencer[message] }
	keepsNoLanes        struct{ *Sequencer[message] }
	dropsTheNewest      struct{ *Sequencer[message] }
	dropsSilently       struct{ *Sequencer[message] }
	overtakesWhileDelay struct{ *Sequencer[message] }
	losesMoved          struct{ *Sequencer[message] }
)

func (m retriesAtTheTail) Retry(t Ticket[message], _ time.Time) { m.Move(t, t.lane.name, t.Value(), 1) }

func (m forgetsFailures) Retry(t Ticket[message], _ time.Time) { m.Done(t) }

func (m retriesAtOnce) Retry(t Ticket[message], now time.Time) {
	m.Sequencer.Retry(t, now.Add(-time.Hour))
}

func (m keepsNoLanes) Add(_ string, value message, size int) []message {
	return m.Sequencer.Add(fmt.Sprint(value.number), value, size)
}

func (m dropsTheNewest) Add(lane string, value message, size int) []message {
	if m.Waiting() >= simConfig.MaxWaiting {
		return []message{value}
	}
	return m.Sequencer.Add(lane, value, size)
}

func (m dropsSilently) Add(lane string, value message, size int) []message {
	m.Sequencer.Add(lane, value, size)
	return nil
}

func (m overtakesWhileDelay) Retry(t Ticket[message], now time.Time) {
	m.Sequencer.Retry(t, now)
	if l := t.lane; l.front.laneNext != nil {
		first, second := l.front, l.front.laneNext
		first.laneNext, second.laneNext = second.laneNext, first
		l.front = second
		if first.laneNext == nil {
			l.back = first
		}
	}
}

func (m losesMoved) Move(t Ticket[message], _ string, _ message, _ int) { m.Done(t) }

// TestSimulationCatchesMistakes shows that the simulation is worth something.
func TestSimulationCatchesMistakes(t *testing.T) {
	t.Parallel()
	wideWindow, largeBuffer, bound := simConfig, simConfig, simConfig
	wideWindow.Window++
	bound.Free = nil
	largeBuffer.MaxWaiting, largeBuffer.MaxBytes = 1000, 10000
	mistakes := map[string]func() machine{
		"a failed message goes to the tail":          func() machine { return retriesAtTheTail{New[message](simConfig)} },
		"a failed message is forgotten":              func() machine { return forgetsFailures{New[message](simConfig)} },
		"a failed message is tried again at once":    func() machine { return retriesAtOnce{New[message](simConfig)} },
		"messages of one lane go side by side":       func() machine { return keepsNoLanes{New[message](simConfig)} },
		"the newest is dropped":                      func() machine { return dropsTheNewest{New[message](simConfig)} },
		"drops are not reported":                     func() machine { return dropsSilently{New[message](simConfig)} },
		"the next overtakes one that waits":          func() machine { return overtakesWhileDelay{New[message](simConfig)} },
		"a moved message is lost":                    func() machine { return losesMoved{New[message](simConfig)} },
		"asking takes a place in the window":         func() machine { return New[message](bound) },
		"the window is one too wide":                 func() machine { return New[message](wideWindow) },
		"nothing is dropped when the buffer is full": func() machine { return New[message](largeBuffer) },
	}
	for name, mistaken := range mistakes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				if _, err := simulate(seed, 2000, mistaken()); err != nil {
					t.Log(err)
					return
				}
			}
			require.Fail(t, "the simulation does not notice")
		})
	}
}
