// Package outage keeps why a server cannot be reached, and says so: at which
// address, what happened there, since when, and when it is tried again. In the log
// it says so once at each change, not at each try; /readyz has the latest.
//
// Whoever tries decides what counts as a failure, and for how long it waits.
package outage

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// maxAddresses bounds what is remembered: the addresses behind a name may change for
// as long as nobody can be reached there.
const maxAddresses = 16

// Outage is what is known of one server, or of a group of servers of which one is
// enough. Its methods may be called at the same time.
type Outage struct {
	message string // of the log
	logger  *slog.Logger

	mu      sync.Mutex
	since   time.Time // zero: there is no outage
	next    time.Time // when it is tried again
	order   []string  // the addresses, as they were tried first
	reasons map[string]string
}

// New returns an Outage that has not begun. message is the log's line of it, such as
// "NATS cannot be reached".
func New(message string, logger *slog.Logger) *Outage {
	return &Outage{message: message, logger: logger, reasons: map[string]string{}}
}

// Failed notes a try that came to nothing, and how soon another one follows. reason
// is in the words of Reason, and must not change where nothing else does.
func (o *Outage) Failed(address, reason string, retry time.Duration) {
	now := time.Now()
	o.mu.Lock()
	if o.since.IsZero() {
		o.since = now
	}
	since := o.since
	o.next = now.Add(retry)
	before, known := o.reasons[address]
	if !known {
		o.addLocked(address)
	}
	o.reasons[address] = reason
	o.mu.Unlock()

	level := slog.LevelWarn
	if known && before == reason {
		level = slog.LevelDebug
	}
	o.logger.Log(context.Background(), level, o.message, "address", address, "error", reason, "since", stamp(since), "retry_in", retry)
}

// addLocked makes room for an address. o.mu is held.
func (o *Outage) addLocked(address string) {
	if len(o.order) == maxAddresses {
		delete(o.reasons, o.order[0])
		o.order = o.order[1:]
	}
	o.order = append(o.order, address)
}

// Over notes that the server is reached.
func (o *Outage) Over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since, o.order = time.Time{}, nil
	clear(o.reasons)
}

// Detail says all of it for /readyz; "" where there is no outage.
func (o *Outage) Detail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return ""
	}
	var parts []string
	for _, address := range o.order {
		parts = append(parts, address+": "+o.reasons[address])
	}
	return fmt.Sprintf("not reached since %s: %s; %s", stamp(o.since), strings.Join(parts, "; "), o.nextLocked())
}

// Since says since when.
func (o *Outage) Since() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return "since now"
	}
	return "since " + stamp(o.since)
}

// Next says when it is tried again.
func (o *Outage) Next() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.nextLocked()
}

func (o *Outage) nextLocked() string {
	left := time.Until(o.next).Round(100 * time.Millisecond)
	if left <= 0 {
		return "being tried again now"
	}
	return "next try in " + left.String()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
