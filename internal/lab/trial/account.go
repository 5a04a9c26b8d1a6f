package trial

import (
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// account says what came of each step, for the table. Whether anything is wrong
// the ledger says.
type account struct {
	clock func() time.Time

	mu     sync.Mutex
	steps  []*step
	events map[string]*published
	unsaid int // published, but Redis failed or no bridge listened
}

// step is the time from one call of begin to the next.
type step struct {
	name         string
	began, ended time.Time
	// Of the events that were published in it: how many were accepted, receipts
	// without repeats, and the longest time from the first attempt to publish to
	// a receipt.
	published, delivered, lost int
	longest                    time.Duration
	// What happened in it.
	repeats, reconnects int
}

// published is an event that has been published.
type published struct {
	event    event.Event
	at       time.Time // of the first attempt
	step     *step
	accepted bool
	got      map[ledger.Seat]bool
}

func newAccount(clock func() time.Time) *account {
	return &account{clock: clock, events: map[string]*published{}, steps: []*step{{name: "connecting", began: clock()}}}
}

// begin ends a step and begins the next. It returns what came of the ended one
// so far.
func (a *account) begin(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.steps[len(a.steps)-1]
	last.ended = a.clock()
	a.steps = append(a.steps, &step{name: name, began: last.ended})
	return fmt.Sprintf("%s: %d published, %d delivered, %d repeats, %d reconnects, longest wait %s\n",
		last.name, last.published, last.delivered, last.repeats, last.reconnects, seconds(last.longest))
}

// end ends the last step.
func (a *account) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.steps[len(a.steps)-1].ended = a.clock()
}

// publishing counts an attempt; the first of each event is when it begins.
func (a *account) publishing(e event.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.events[e.ID] == nil {
		a.events[e.ID] = &published{event: e, at: a.clock(), step: a.steps[len(a.steps)-1], got: map[ledger.Seat]bool{}}
	}
}

// accepted says that the log has an event, or bridges do.
func (a *account) accepted(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.events[id]
	e.accepted = true
	e.step.published++
}

// unheard says that nobody has taken an event, and nothing is promised of it.
func (a *account) unheard() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unsaid++
}

// received counts a receipt.
func (a *account) received(seat ledger.Seat, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.events[id]
	switch {
	case e == nil: // invented; the ledger tells
	case e.got[seat]:
		a.steps[len(a.steps)-1].repeats++
	default:
		e.got[seat] = true
		e.step.delivered++
		e.step.longest = max(e.step.longest, a.clock().Sub(e.at))
	}
}

// reconnected counts a connection after a daemon's first.
func (a *account) reconnected() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.steps[len(a.steps)-1].reconnects++
}

// blame counts the losses in the steps in which the events were published.
func (a *account) blame(ids map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range ids {
		if e := a.events[id]; e != nil {
			e.step.lost++
		}
	}
}

// missing returns the accepted events for which a condition does not hold, given
// how many seats have received them.
func (a *account) missing(holds func(e event.Event, seats int) bool) []event.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []event.Event
	for _, e := range a.events {
		if e.accepted && !holds(e.event, len(e.got)) {
			all = append(all, e.event)
		}
	}
	return all
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// String is the table.
func (a *account) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "time\tpublished\tdelivered\tlost\tduplicates\treconnects\tlongest wait\t  step")
	total := &step{name: "all", began: a.steps[0].began}
	for _, s := range a.steps {
		s.write(w)
		total.ended = s.ended
		total.published += s.published
		total.delivered += s.delivered
		total.lost += s.lost
		total.repeats += s.repeats
		total.reconnects += s.reconnects
		total.longest = max(total.longest, s.longest)
	}
	total.write(w)
	_ = w.Flush()
	return b.String()
}

func (s *step) write(w *tabwriter.Writer) {
	_, _ = fmt.Fprintf(w, "%.0fs\t%d\t%d\t%d\t%d\t%d\t%s\t  %s\n",
		s.ended.Sub(s.began).Seconds(), s.published, s.delivered, s.lost, s.repeats, s.reconnects, seconds(s.longest), s.name)
}
