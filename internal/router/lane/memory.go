package lane

import (
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// memory knows the newest sequence of the orchestrators seen last, at most
// limit of them. Whoever it forgets raises the horizon, so that what is said
// of an orchestrator it does not know stays true: nothing of it stands between
// the horizon and now.
type memory struct {
	limit   int
	horizon uint64
	index   map[event.Token]int32
	// entries[0] is the ring's anchor: its next is the entry seen last, its
	// previous the one to forget first. Recency is the order of sequences, so
	// forgetting raises the horizon as little as possible.
	entries []entry
}

type entry struct {
	token          event.Token
	last           uint64
	seen           time.Time
	previous, next int32
}

func newMemory(limit int, horizon uint64) memory {
	return memory{limit: limit, horizon: horizon, index: make(map[event.Token]int32), entries: make([]entry, 1)}
}

// note remembers that the token's newest sequence is this one and returns what
// stood there before: its previous sequence, or the horizon.
func (m *memory) note(token event.Token, sequence uint64, now time.Time) (after uint64) {
	i, known := m.index[token]
	if known {
		after = m.entries[i].last
		m.unlink(i)
	} else {
		after = m.horizon
		i = m.place()
		m.index[token] = i
		m.entries[i].token = token
	}
	m.entries[i].last, m.entries[i].seen = sequence, now
	m.linkFirst(i)
	return after
}

// get returns the token's newest sequence and when it was seen.
func (m *memory) get(token event.Token) (last uint64, seen time.Time, ok bool) {
	i, ok := m.index[token]
	if !ok {
		return 0, time.Time{}, false
	}
	return m.entries[i].last, m.entries[i].seen, true
}

func (m *memory) len() int { return len(m.index) }

// place returns a free entry: a new one, or the one to forget first.
func (m *memory) place() int32 {
	if len(m.index) < m.limit {
		m.entries = append(m.entries, entry{})
		return int32(len(m.entries) - 1)
	}
	oldest := m.entries[0].previous
	m.horizon = max(m.horizon, m.entries[oldest].last)
	delete(m.index, m.entries[oldest].token)
	m.unlink(oldest)
	return oldest
}

func (m *memory) unlink(i int32) {
	e := m.entries[i]
	m.entries[e.previous].next = e.next
	m.entries[e.next].previous = e.previous
}

func (m *memory) linkFirst(i int32) {
	first := m.entries[0].next
	m.entries[i].previous, m.entries[i].next = 0, first
	m.entries[first].previous = i
	m.entries[0].next = i
}
