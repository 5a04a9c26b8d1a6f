package audit

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// recentSize and recentTime bound what is remembered of refusals, and maxText
	// what of an id: whoever attacks chooses both addresses and ids.
	recentSize = 1000
	recentTime = time.Hour
	maxText    = 128
)

// Refusal is somebody who was refused, limited or over a limit, and how often.
type Refusal struct {
	Act    Act    `json:"act"`
	Reason string `json:"reason"`
	// Address and Orchestrator are those of the records, "" where they have none. Who
	// was refused before being known is who they claimed to be.
	Address      string    `json:"address,omitempty"`
	Orchestrator string    `json:"orchestrator,omitempty"`
	Count        int       `json:"count"`
	First        time.Time `json:"first"`
	Last         time.Time `json:"last"`
}

// Refusals are those of the last hour, the latest first.
type Refusals struct {
	Refusals []Refusal `json:"refusals"`
	// Forgotten is how many refusals, since the node started, were forgotten to make
	// room for later ones.
	Forgotten int `json:"forgotten,omitempty"`
}

type refused struct {
	act                           Act
	reason, address, orchestrator string
}

type tally struct {
	count       int
	first, last time.Time
}

// recent counts refusals, also those that are too many for the log. Its methods may
// be called at the same time.
type recent struct {
	mu        sync.Mutex
	tallies   *simplelru.LRU[refused, *tally] // by when they came last
	forgotten int
}

func newRecent() *recent {
	r := &recent{}
	// It fails only for a size below one.
	r.tallies, _ = simplelru.NewLRU[refused, *tally](recentSize, nil)
	return r
}

func (r *recent) note(act Act, reason string, attributes []any, now time.Time) {
	who := refused{act: act, reason: reason}
	for i := 0; i+1 < len(attributes); i += 2 {
		switch attributes[i] {
		case "address":
			who.address = text(attributes[i+1])
		case "orchestrator":
			who.orchestrator = text(attributes[i+1])
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tallies.Get(who)
	if !ok {
		if r.tallies.Len() == recentSize {
			r.forgetOldestLocked()
		}
		t = &tally{first: now}
		r.tallies.Add(who, t)
	}
	t.count++
	t.last = now
}

// forgetOldestLocked makes room. r.mu is held.
func (r *recent) forgetOldestLocked() {
	if _, t, ok := r.tallies.RemoveOldest(); ok {
		r.forgotten += t.count
	}
}

func text(value any) string {
	said := fmt.Sprint(value)
	return said[:min(len(said), maxText)]
}

func (r *recent) all(now time.Time) Refusals {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		_, t, ok := r.tallies.GetOldest()
		if !ok || now.Sub(t.last) < recentTime {
			break
		}
		r.tallies.RemoveOldest()
	}
	list := make([]Refusal, 0, r.tallies.Len())
	for _, who := range r.tallies.Keys() {
		t, _ := r.tallies.Peek(who)
		list = append(list, Refusal{
			Act: who.act, Reason: who.reason, Address: who.address, Orchestrator: who.orchestrator,
			Count: t.count, First: t.first, Last: t.last,
		})
	}
	slices.SortStableFunc(list, func(a, b Refusal) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Reason, b.Reason))
	})
	return Refusals{Refusals: list, Forgotten: r.forgotten}
}
