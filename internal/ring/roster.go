package ring

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// roster is who is alive. Readers never wait.
type roster struct {
	mu     sync.Mutex
	byName map[string]Member // guarded by mu
	list   atomic.Pointer[map[Tier][]Member]
}

func newRoster(self Member) *roster {
	r := &roster{byName: make(map[string]Member)}
	r.put(self)
	return r
}

// put adds or changes a member. It reports whether anything changed and whether
// the member is new.
func (r *roster) put(m Member) (changed, added bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.byName[m.Name]
	if old == m {
		return false, false
	}
	r.byName[m.Name] = m
	r.publishLocked()
	return true, !known
}

// remove returns the member that is gone, if it was one.
func (r *roster) remove(name string) (Member, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, known := r.byName[name]
	if known {
		delete(r.byName, name)
		r.publishLocked()
	}
	return m, known
}

// publishLocked renews what readers see. r.mu is held.
func (r *roster) publishLocked() {
	list := make(map[Tier][]Member)
	for _, m := range slices.SortedFunc(maps.Values(r.byName), func(a, b Member) int {
		return strings.Compare(a.Name, b.Name)
	}) {
		list[m.Tier] = append(list[m.Tier], m)
	}
	r.list.Store(&list)
}

func (r *roster) tier(t Tier) []Member { return (*r.list.Load())[t] }

// addresses returns the gossip addresses of all members.
func (r *roster) addresses() map[string]bool {
	set := make(map[string]bool)
	for _, members := range *r.list.Load() {
		for _, m := range members {
			set[m.Address] = true
		}
	}
	return set
}
