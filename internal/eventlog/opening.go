package eventlog

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Opening is how far a node has come with opening its log, for /readyz. Its
// methods may be called at the same time.
type Opening struct {
	// Both are nil at first.
	waits  atomic.Pointer[string] // what is waited for; "": the log is open
	since  atomic.Pointer[time.Time]
	remark atomic.Pointer[string] // what is not as it is configured
}

// Option has Open say here how far it is.
func (o *Opening) Option() Option {
	return func(open *openOptions) {
		open.progress = o.Waits
		open.remark = func(detail string) { o.remark.Store(&detail) }
	}
}

// Waits says what is waited for, "" for nothing.
func (o *Opening) Waits(detail string) {
	now := time.Now()
	o.since.CompareAndSwap(nil, &now)
	o.waits.Store(&detail)
}

// Check answers for /readyz.
func (o *Opening) Check() (ready bool, detail string) {
	waits, remark := o.waits.Load(), o.remark.Load()
	switch {
	case waits == nil:
		return false, "not opened yet"
	case *waits != "":
		return false, fmt.Sprintf("%s; not open since %s, and tried again every %v or sooner",
			*waits, o.since.Load().UTC().Format(time.RFC3339), longestDelay)
	case remark != nil:
		return true, "open; " + *remark
	}
	return true, "open"
}
