// Package logbook stands between a node and its log. It keeps the last lines, for
// operators who see no machine, and changes for a while which lines there are: for
// the whole node, or more of them for one orchestrator or daemon. Without a change
// a line costs an atomic load more than before.
package logbook

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// Target says whose lines a change is about: all of the node's where it is empty.
type Target struct {
	Orchestrator string `json:"orchestrator,omitempty"`
	Daemon       string `json:"daemon,omitempty"`
}

// Change is a level that is in force until some time. That of the whole node
// stands instead of LOG_LEVEL; that of an orchestrator or a daemon adds lines, and
// takes none away.
type Change struct {
	Target
	Level slog.Level `json:"level"`
	Until time.Time  `json:"until"`
}

// Book is a node's. Its methods may be called at the same time.
type Book struct {
	tail   tail
	logger *slog.Logger
	// force is nil while no change is in force.
	force atomic.Pointer[force]

	mu      sync.Mutex
	changes []running
}

// running is a change and what ends it.
type running struct {
	Change
	end *time.Timer
}

// force is what the changes come to.
type force struct {
	whole   *slog.Level
	targets []aim
	lowest  slog.Level // below it no change wants a line
}

// Open returns a node's book, and the logger that writes through it, into what
// logger writes to.
func Open(logger *slog.Logger) (*Book, *slog.Logger) {
	b := &Book{}
	kept := slog.NewJSONHandler(&b.tail, &slog.HandlerOptions{Level: slog.Level(-128), ReplaceAttr: settings.Readable})
	through := slog.New(&handler{book: b, inner: logger.Handler(), kept: kept})
	b.logger = through.With("component", "log level")
	return b, through
}

// Lines returns the last lines, oldest first, as JSON, however the node writes them.
func (b *Book) Lines() []string { return b.tail.all() }

// Set puts a change in force, in the place of one of the same target, until its
// time.
func (b *Book) Set(c Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removeLocked(c.Target)
	r := running{Change: c}
	r.end = time.AfterFunc(time.Until(c.Until), func() { b.expire(c) })
	b.changes = append(b.changes, r)
	b.forceLocked()
}

// Reset ends the change of a target, and reports whether there was one.
func (b *Book) Reset(t Target) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := b.removeLocked(t)
	b.forceLocked()
	return found
}

// Changes returns what is in force.
func (b *Book) Changes() []Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Change, len(b.changes))
	for i, r := range b.changes {
		all[i] = r.Change
	}
	return all
}

// Close ends all changes: nothing of them is left behind by a node that ends in a
// process that goes on.
func (b *Book) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.changes) > 0 {
		b.removeLocked(b.changes[0].Target)
	}
	b.forceLocked()
}

// expire ends a change whose time has come, unless another one has its place.
func (b *Book) expire(c Change) {
	b.mu.Lock()
	still := slices.ContainsFunc(b.changes, func(r running) bool { return r.Change == c })
	if still {
		b.removeLocked(c.Target)
		b.forceLocked()
	}
	b.mu.Unlock()
	if still {
		b.logger.Info("log level is as before", "was", c.Level.String(), "orchestrator", c.Orchestrator, "daemon", c.Daemon)
	}
}

// removeLocked ends the change of a target. b.mu is held.
func (b *Book) removeLocked(t Target) bool {
	i := slices.IndexFunc(b.changes, func(r running) bool { return r.Target == t })
	if i < 0 {
		return false
	}
	b.changes[i].end.Stop()
	b.changes = slices.Delete(b.changes, i, i+1)
	return true
}

// forceLocked works out what the changes come to. b.mu is held.
func (b *Book) forceLocked() {
	if len(b.changes) == 0 {
		b.force.Store(nil)
		return
	}
	f := &force{lowest: b.changes[0].Level}
	for _, r := range b.changes {
		f.lowest = min(f.lowest, r.Level)
		if r.Target == (Target{}) {
			level := r.Level
			f.whole = &level
			continue
		}
		f.targets = append(f.targets, newAim(r.Change))
	}
	b.force.Store(f)
}

const (
	// tailLines and tailBytes bound what is kept, so that it fits into an answer to
	// operators.
	tailLines = 1000
	tailBytes = 256 << 10
)

// tail keeps the last lines that are written to it, one at a time.
type tail struct {
	mu    sync.Mutex
	lines []string
	bytes int
}

// Write keeps a line. It never fails.
func (t *tail) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, string(line[:max(0, len(line)-1)])) // without its end
	t.bytes += len(line)
	for len(t.lines) > tailLines || t.bytes > tailBytes {
		t.bytes -= len(t.lines[0]) + 1
		t.lines[0] = ""
		t.lines = t.lines[1:]
	}
	return len(line), nil
}

func (t *tail) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}
