package ledger

import (
	"sort"
	"time"
)

// question is something that a daemon sends only to be answered, such as a
// heartbeat.
type question struct{ asked, answered time.Time } // answered zero: not yet

// Asked records that a daemon is about to ask its edge for an answer. Questions
// show which acks have arrived: without them none is known to.
func (l *Ledger) Asked(id ConnID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[id]
	c.questions = append(c.questions, question{asked: l.clock()})
}

// Answered records that the answer to the oldest question that had none has come.
func (l *Ledger) Answered(id ConnID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[id]; c.answered < len(c.questions) {
		c.questions[c.answered].answered = l.clock()
		c.answered++
	}
}

// arrival is from when on whatever comes was sent by an edge that had the ack of
// that time; false: that is not known. An edge takes in what a daemon sends in
// the order of sending, so the answer to a later question says that the ack is
// there. Answers overtake the events that wait to be written. The writer takes
// all of these together with an answer (up to 256 KiB, more than the events of a
// run), so they have come before the answer to a question that was asked after
// that one.
func (c *connection) arrival(acked time.Time) (time.Time, bool) {
	there, ok := c.answer(acked)
	if !ok {
		return time.Time{}, false
	}
	return c.answer(there)
}

// answer is when the first question after a time was answered.
func (c *connection) answer(after time.Time) (time.Time, bool) {
	i := sort.Search(len(c.questions), func(i int) bool { return c.questions[i].asked.After(after) })
	if i >= c.answered {
		return time.Time{}, false
	}
	return c.questions[i].answered, true
}
