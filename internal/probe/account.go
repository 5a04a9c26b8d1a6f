package probe

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// account says what came of each step, for the table. Whether anything is wrong
// the ledger says.
type account struct {
	clock func() time.Time

	mu         sync.Mutex
	steps      []step
	reconnects []time.Time // connections after a daemon's first
}

// step is the time from one call of begin to the next.
type step struct {
	name         string
	began, ended time.Time // ended is zero while it lasts
	// Of the events that were published in it: how many were accepted, receipts
	// without repeats, and the longest time from the first attempt to publish to
	// a receipt.
	published, delivered, lost int
	longest                    time.Duration
	// What happened in it.
	repeats, reconnects int
}

func newAccount(clock func() time.Time) *account {
	return &account{clock: clock, steps: []step{{name: "connecting", began: clock()}}}
}

// begin ends a step and begins the next; an empty name begins none.
func (a *account) begin(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock()
	a.steps[len(a.steps)-1].ended = now
	if name != "" {
		a.steps = append(a.steps, step{name: name, began: now})
	}
}

func (a *account) reconnected() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reconnects = append(a.reconnects, a.clock())
}

// eventKey names an event: ids are the publisher's.
type eventKey struct {
	orchestrator protocol.OrchestratorID
	id           string
}

// count returns the steps with what came of each, and their sum at the end.
func (a *account) count(published []traffic.Publication, deliveries []ledger.Delivery, lost map[eventKey]bool) []step {
	a.mu.Lock()
	defer a.mu.Unlock()
	steps := slices.Clone(a.steps)
	at := func(when time.Time) *step {
		i := len(steps) - 1
		for i > 0 && when.Before(steps[i].began) {
			i--
		}
		return &steps[i]
	}
	began := map[eventKey]time.Time{}
	for _, p := range published {
		k := eventKey{p.Event.OrchestratorID, p.Event.ID}
		began[k] = p.Began
		if !p.Taken.IsZero() {
			at(p.Began).published++
		}
		if lost[k] {
			at(p.Began).lost++
		}
	}
	for _, d := range deliveries {
		first := began[eventKey{d.Event.OrchestratorID, d.Event.ID}]
		s := at(first)
		s.delivered++
		s.longest = max(s.longest, d.Received.Sub(first))
		for _, when := range d.Again {
			at(when).repeats++
		}
	}
	for _, when := range a.reconnects {
		at(when).reconnects++
	}
	total := step{name: "all", began: steps[0].began}
	for _, s := range steps {
		total.ended = s.ended
		total.published, total.delivered, total.lost = total.published+s.published, total.delivered+s.delivered, total.lost+s.lost
		total.repeats, total.reconnects, total.longest = total.repeats+s.repeats, total.reconnects+s.reconnects, max(total.longest, s.longest)
	}
	return append(steps, total)
}

func (s step) String() string {
	return fmt.Sprintf("%s: %d published, %d delivered, %d repeats, %d reconnects, longest wait %s\n",
		s.name, s.published, s.delivered, s.repeats, s.reconnects, seconds(s.longest))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func table(steps []step) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "time\tpublished\tdelivered\tlost\tduplicates\treconnects\tlongest wait\t  step")
	for _, s := range steps {
		fmt.Fprintf(w, "%.0fs\t%d\t%d\t%d\t%d\t%d\t%s\t  %s\n",
			s.ended.Sub(s.began).Seconds(), s.published, s.delivered, s.lost, s.repeats, s.reconnects, seconds(s.longest), s.name)
	}
	_ = w.Flush()
	return b.String()
}
