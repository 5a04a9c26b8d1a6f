package lane

import "github.com/neolith/daemon-gateway/pkg/event"

// hint says that the orchestrator's newest event is last. If it stands for
// events that were meant for the edge and did not reach it, lowest is the first
// of them and holds the checkpoint; 0 if it only answers a new claim.
type hint struct {
	token  event.Token
	last   uint64
	lowest uint64
}

// hintQueue holds at most one hint for each orchestrator, first come first out.
type hintQueue struct {
	byToken map[event.Token]hint
	order   []event.Token
}

// add merges the hint with one that waits for the same orchestrator.
func (q *hintQueue) add(h hint) {
	if q.byToken == nil {
		q.byToken = make(map[event.Token]hint)
	}
	old, waiting := q.byToken[h.token]
	if !waiting {
		q.order = append(q.order, h.token)
	}
	h.last = max(h.last, old.last)
	h.lowest = lower(h.lowest, old.lowest)
	q.byToken[h.token] = h
}

// pop takes the hint that has waited longest.
func (q *hintQueue) pop() (hint, bool) {
	if len(q.order) == 0 {
		return hint{}, false
	}
	h := q.byToken[q.order[0]]
	delete(q.byToken, h.token)
	q.order = q.order[1:]
	if len(q.order) == 0 {
		q.order = nil
	}
	return h, true
}

func (q *hintQueue) len() int { return len(q.order) }

// lowest returns the lowest sequence that waits for a hint to be received, or 0.
func (q *hintQueue) lowest() uint64 {
	var low uint64
	for _, h := range q.byToken {
		low = lower(low, h.lowest)
	}
	return low
}

// lower returns the smaller of two sequences, where 0 means none.
func lower(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
