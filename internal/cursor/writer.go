package cursor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Reporter is a connection whose daemon's cursor a Writer keeps. Its methods
// are called while nobody else reads or writes the orchestrator's record here,
// and without any other lock of the store.
type Reporter interface {
	// Progress returns where the daemon stands; it hands over what has happened
	// since the last call. false: the connection is not being delivered to.
	Progress() (Progress, bool)
	// Recorded tells what the record says that the daemon wants, once a report of which
	// that is awaited is stored.
	Recorded(wants []protocol.Subscription)
	// AnswersFor tells for whom the daemon speaks from now on.
	AnswersFor(ids []protocol.DaemonID)
	// Superseded tells that a newer connection of the daemon has begun.
	Superseded()
}

// Writer writes the entry of one daemon for one connection, from its start to
// its end. What it holds of an orchestrator's record goes with it. Its methods
// may be called at the same time.
type Writer struct {
	store     *Store
	partition *partition
	token     event.Token
	daemon    protocol.DaemonID
	reporter  Reporter

	// Guarded by partition.mu.
	generation uint64    // 0: not begun
	attempts   []attempt // starts that may have been stored
	names      []protocol.DaemonID
	dirty      bool
	ended      bool
	superseded bool
}

// attempt is a start that may have been stored, whatever was heard of it.
type attempt struct {
	generation uint64
	lost       time.Time // since when the record was lost that it was made from
	new        bool      // the daemon had no entry, or one by such an attempt
}

// maxAttempts bounds them, where starts cannot be written for long: the first of so many
// was answered, or given up by NATS, seconds ago.
const maxAttempts = 128

// ErrEnded is what Begin returns when the connection has ended: nothing was
// decided, or it was taken back.
var ErrEnded = errors.New("the connection has ended")

// Writer returns what writes the cursor of a daemon for a connection. End is to
// be called when that ends.
func (s *Store) Writer(token event.Token, daemon protocol.DaemonID, reporter Reporter) *Writer {
	return &Writer{store: s, partition: s.partition(token), token: token, daemon: daemon, reporter: reporter}
}

// Begin reads the orchestrator's record (together with other callers), puts on
// it what this node has yet to write, lets decide say where the connection
// starts (see Start), and writes the result. If another node wrote in between,
// all of that is repeated: decide may be called several times and must depend on
// nothing but its argument and on whether the connection still has a say. If
// decide refuses, nothing is written and Begin reports false.
//
// While NATS does not answer, Begin tries again until ctx ends; its error then
// wraps that of ctx and what went wrong. A connection that has ended decides
// nothing, and if it ends while its start is being written, the entry says so as
// soon as it can be written.
//
// started is called with the decision once that is stored, as a Reporter's
// methods are: what the Reporter is told afterwards is newer.
func (w *Writer) Begin(ctx context.Context, decide func(Record) (Record, Decision, bool), started func(Decision)) (decided bool, err error) {
	start := time.Now()
	var d Decision
	err = w.store.update(ctx, w.token, func(rec Record) (Record, bool) {
		if decided = !w.hasEnded(); !decided {
			return rec, false
		}
		var next Record
		if next, d, decided = decide(w.doubt(rec)); decided {
			decided = w.attempt(d.Entry.Generation, rec)
		}
		return next, decided
	}, func(k *key) {
		if decided && w.begun(k, d.Entry) {
			started(d)
		}
	})
	switch {
	case err != nil:
		return false, fmt.Errorf("begin from the cursors of %s: %w", w.token, err)
	case w.hasEnded():
		return false, ErrEnded
	case decided:
		w.store.metrics.began(start)
	}
	return decided, nil
}

func (w *Writer) hasEnded() bool {
	w.partition.mu.Lock()
	defer w.partition.mu.Unlock()
	return w.ended
}

// attempt notes that a start of this generation, made from rec, may be stored from now
// on; false: the connection has ended.
func (w *Writer) attempt(generation uint64, rec Record) bool {
	w.partition.mu.Lock()
	defer w.partition.mu.Unlock()
	_, known := rec.Daemons[w.daemon]
	before, ours := w.storedLocked(rec)
	w.attempts = append(w.attempts, attempt{generation, rec.Lost.Since, !known || ours && before.new})
	w.attempts = w.attempts[max(0, len(w.attempts)-maxAttempts):]
	return !w.ended
}

// storedLocked returns the attempt of this connection that the record holds, if it
// holds one. partition.mu is held.
func (w *Writer) storedLocked(rec Record) (attempt, bool) {
	e, known := rec.Daemons[w.daemon]
	i := slices.IndexFunc(w.attempts, func(a attempt) bool { return a.generation == e.Generation })
	if !known || i < 0 {
		return attempt{}, false
	}
	return w.attempts[i], true
}

// doubt returns the record as it is to be taken if it was lost, and holds an attempt of
// this connection that did not know of that: such a start is not where the daemon
// stood, and may have begun behind what only the daemon wants (invariant 1).
func (w *Writer) doubt(rec Record) Record {
	w.partition.mu.Lock()
	stored, ours := w.storedLocked(rec)
	w.partition.mu.Unlock()
	if !ours || !stored.new || !rec.Lost.Since.After(stored.lost) {
		return rec
	}
	rec.Daemons = maps.Clone(rec.Daemons)
	e := rec.Daemons[w.daemon]
	e.Floor, e.Settled, e.Unnamed = 0, nil, 0
	rec.Daemons[w.daemon] = e
	return rec
}

// begun takes the connection among those of the key, whose busy the caller
// holds; false: it has ended.
func (w *Writer) begun(k *key, e Entry) bool {
	w.partition.mu.Lock()
	defer w.partition.mu.Unlock()
	if w.ended {
		return false // End has seen the attempt
	}
	w.generation, w.names, w.attempts, w.superseded = e.Generation, e.AnswersFor, nil, false
	if !slices.Contains(k.writers, w) {
		k.writers = append(k.writers, w)
	}
	return true
}

// SaveSoon says that Progress has something new. It is asked, and the answer
// written, within a second.
func (w *Writer) SaveSoon() {
	if w.noteDirty() {
		w.store.schedule.add(w.token)
	}
}

// SaveNow is SaveSoon for what is not to wait for its moment of the second.
func (w *Writer) SaveNow() {
	w.noteDirty()
	w.store.schedule.hurry(w.token)
}

// noteDirty reports whether it is new that there is something to be written.
func (w *Writer) noteDirty() bool {
	w.partition.mu.Lock()
	defer w.partition.mu.Unlock()
	if w.dirty || w.ended || w.generation == 0 {
		return false
	}
	w.dirty = true
	w.partition.dirty[w.token] = struct{}{}
	return true
}

// End is the connection's last word, which is written at once; false: it was
// not being delivered to.
func (w *Writer) End(last Progress, running bool) {
	p := w.partition
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.ended {
		return
	}
	w.ended = true
	k := p.keyLocked(w.token)
	k.writers = slices.DeleteFunc(k.writers, func(x *Writer) bool { return x == w })
	for _, a := range w.attempts {
		k.unsaved.add(writer{w.daemon, a.generation}, Progress{Entry: Entry{Generation: a.generation}, Abandoned: true})
	}
	if running {
		last.Entry.Edge = ""
		k.unsaved.add(writer{w.daemon, last.Entry.Generation}, last)
	} else if w.generation != 0 {
		k.unsaved.add(writer{w.daemon, w.generation}, Progress{Entry: Entry{Generation: w.generation}, Abandoned: true})
	}
	if len(k.unsaved) > 0 {
		p.dirty[w.token] = struct{}{}
		w.store.schedule.hurry(w.token)
	}
	p.tidyLocked(w.token, k)
}

// hear tells the connection what a record says of it, with which reports of this
// node were stored, and reports whether it has to be put back.
func (w *Writer) hear(rec Record, reported unsaved) (missing bool) {
	e, known := rec.Daemons[w.daemon]
	p := w.partition
	p.mu.Lock()
	report := reported[writer{w.daemon, w.generation}]
	own := known && e.Generation == w.generation && !w.ended
	replaced := rec.Superseded(w.daemon, w.generation)
	superseded := replaced && !w.superseded && !w.ended
	renamed := own && !slices.Equal(e.AnswersFor, w.names)
	if superseded {
		w.superseded = true
	}
	if renamed {
		w.names = e.AnswersFor
	}
	missing = !replaced && !w.ended && (!known || e.Generation < w.generation)
	p.mu.Unlock()
	if superseded {
		w.reporter.Superseded()
	}
	if renamed {
		w.reporter.AnswersFor(e.AnswersFor)
	}
	if own && report.Awaited && report.Epoch == rec.Epoch {
		w.reporter.Recorded(report.Entry.Subscriptions)
	}
	return missing
}
