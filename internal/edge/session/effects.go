package session

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Effect is something the caller of a Session has to do.
type Effect interface{ isEffect() }

// Begin asks for the start of this connection to be decided and written
// (cursor.Start), then for Started or StartFailed with the same Run.
type Begin struct {
	Run uint32
	// Patient: the series of subscribes may not be complete. Where the daemon is
	// known to want more than it has subscribed to, StartFailed is the answer, so
	// that nothing it wants is passed because its words came late (invariant 1).
	Patient bool
}

// AskLast asks where the orchestrator's newest event stands, then for
// LastKnown or AskFailed with the same Run. Questions of many sessions are
// best put together.
type AskLast struct {
	Run   uint32
	Cause Cause
}

// Read asks for the orchestrator's events from sequence From on, at most
// MaxEvents and about MaxBytes, all from one replica; then for ReadDone or
// ReadFailed with the same Run.
type Read struct {
	Run       uint32
	From      uint64
	MaxEvents int
	MaxBytes  int
	Cause     Cause
}

// Subscribed tells the daemon that all that it has subscribed to so far has taken
// effect, whatever fails from here on: once the first has, and where it asks (Confirm).
type Subscribed struct {
	First     bool
	Position  eventlog.Position
	Resumed   bool
	Truncated bool
}

// Send puts an event on its way to the daemon; then Written with the same Run
// and Sequence is due when its frame has reached the socket.
type Send struct {
	Run         uint32
	Event       event.Event
	Stored      time.Time
	Position    eventlog.Position
	Redelivered bool
	Trace       *tracing.Context // nil: the event has none
	// Ping: a ping is to be sent right before it; then Answered is due as well, when
	// the daemon has answered that.
	Ping bool
}

// DeadLetter asks for an event that was tried in vain for the last time to be
// stored among the dead letters, then for DeadLettered.
type DeadLetter struct {
	Run      uint32
	Sequence uint64
	Event    event.Event
	Body     []byte
	Tries    int // in vain
	Trace    *tracing.Context
}

// Save says that Progress has something that a crash should not forget. Now: it
// must not wait until that is written with more.
type Save struct{ Now bool }

// RefreshEpoch says that a router spoke of another epoch than this session's:
// the log's leader is to be asked, and EpochChanged called if it is new.
type RefreshEpoch struct{}

// Filtered says that an event was settled without being sent.
type Filtered struct{ Why FilterReason }

// WindowFull says that the window has just become full.
type WindowFull struct{}

// Trace says what has happened to an event that is traced.
type Trace struct{ trace.Record }

func (Begin) isEffect()        {}
func (AskLast) isEffect()      {}
func (Read) isEffect()         {}
func (Subscribed) isEffect()   {}
func (Send) isEffect()         {}
func (DeadLetter) isEffect()   {}
func (Save) isEffect()         {}
func (RefreshEpoch) isEffect() {}
func (Filtered) isEffect()     {}
func (WindowFull) isEffect()   {}
func (Trace) isEffect()        {}

// Cause says what made a session read the log; a closed set for metrics.
type Cause string

// The causes of a catch-up.
const (
	CauseAttach Cause = "attach"
	CauseGap    Cause = "gap"
	CauseHint   Cause = "hint"
	CauseNet    Cause = "net"
	CauseWindow Cause = "window"
	CauseEpoch  Cause = "epoch"
)

// Causes lists every Cause.
var Causes = []Cause{CauseAttach, CauseGap, CauseHint, CauseNet, CauseWindow, CauseEpoch}

// FilterReason says why an event was settled without being sent; a closed set.
type FilterReason string

// The reasons for which an event is not sent.
const (
	FilteredInvalid      FilterReason = "invalid"
	FilteredAddressee    FilterReason = "addressee"
	FilteredSubscription FilterReason = "subscription"
	// FilteredSettled: this daemon had settled it before it reconnected.
	FilteredSettled FilterReason = "settled"
	// FilteredAcknowledged: this daemon acknowledged it on this connection
	// before its turn came.
	FilteredAcknowledged FilterReason = "acknowledged"
)

// FilterReasons lists every FilterReason.
var FilterReasons = []FilterReason{
	FilteredInvalid, FilteredAddressee, FilteredSubscription, FilteredSettled, FilteredAcknowledged,
}
