// Package session decides what one connection of a daemon is sent, and when.
//
// A Session is a pure state machine: inputs are method calls (subscriptions,
// forwarded events, hints, answers of the log, acks, ticks), outputs are
// effects that the caller takes and carries out. It has no clock, no lock and
// no I/O, so that the same code runs in an edge and in a random simulation.
//
//	new ──Subscribe──▶ starting ──Started──▶ running
//	                  (cursor decided         │  live: all up to complete was considered
//	                   and written)           └─ catching up: the log holds more, up to target
//
// The heart is one number, complete: all that the log holds for the
// orchestrator up to there has been considered for this connection. A
// forwarded event is believed only if nothing can be missing between complete
// and it; everything else, whatever went wrong on the way, only raises target,
// and the session reads the log until complete has reached it.
package session

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Config is what a session knows of its connection and its limits.
type Config struct {
	Orchestrator event.Token
	Daemon       protocol.DaemonID
	Partition    event.Partition
	// WindowEvents and WindowBytes bound what is unsettled at a time.
	WindowEvents int
	WindowBytes  int
	// AckTimeout is how long the oldest unsettled event waits without any ack
	// before it is sent again.
	AckTimeout time.Duration
	// SilentAfter is how long a daemon may say nothing before nobody can tell
	// whether it is there; 0: however long.
	SilentAfter time.Duration
	// MaxVainTries is how often an event is tried in vain before it is
	// dead-lettered.
	MaxVainTries int
	// MaxEventBytes is the validator's limit.
	MaxEventBytes int
	// EventsPerOrchestrator is the log's limit for one orchestrator; a store
	// that holds as many above the cursor may have dropped some undelivered.
	EventsPerOrchestrator int
	// SeriesTime is how long a series of subscribes may take; 0: a second.
	SeriesTime time.Duration
	// Trace says which events are traced; nil: none.
	Trace *trace.Recorder
}

const (
	// subscribeSettle is how long after each of a series of subscribes there may be
	// a further one: until then nothing is passed because nobody wants it (see held).
	subscribeSettle = 50 * time.Millisecond
	// subscribeSettleMost bounds a series that does not end, unless Config does.
	subscribeSettleMost = time.Second
	// refillDelay is how long a window that is less than half free waits before
	// it is refilled, so that a slow daemon does not cost one read an ack.
	refillDelay = 50 * time.Millisecond
	// The log is asked again after a failure or a lagging answer with a delay
	// that doubles from retryFirst to retryMost.
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	// deadLetterRetry is how long after a failed dead letter it is tried again.
	deadLetterRetry = 5 * time.Second
)

type phase uint8

const (
	phaseNew phase = iota
	phaseStarting
	phaseRunning
)

// Session is the delivery state of one connection. It is not safe for
// concurrent use; the zero value is not usable.
type Session struct {
	cfg           Config
	subscriptions []protocol.Subscription
	answersFor    []protocol.DaemonID
	generation    uint64 // of the start, see cursor.Entry

	phase       phase
	startAt     time.Time // when the start is tried again; zero: it is under way
	startBy     time.Time // until then the series of subscribes may not be complete
	seriesUntil time.Time // until then the next of the series may come

	epoch eventlog.Epoch
	// run counts the epochs and starts of this session; answers that belong to
	// an earlier one are dropped.
	run       uint32
	announced bool // subscribed was sent; no event goes out before it
	decided   bool // some start of this connection was
	resumed   bool // by the first of them; a further one finds what that has written

	complete uint64 // all up to here has been considered (invariant 2)
	target   uint64 // the log is known to have held something up to here
	cause    Cause  // why target is above complete
	rumour   rumour // what was said of the log that this session cannot use yet

	asking   bool // a LastKnown is awaited
	reading  bool // a ReadDone is awaited
	askNext  bool // the last read fell short: ask before reading again
	retryAt  time.Time
	retries  int
	refillAt time.Time // window has room, but not enough to be worth a read yet

	window window
	known  []cursor.Range // settled before this connection, above the floor
	sends  cursor.Sends   // vain tries of the oldest unsettled event before this connection
	sent   uint64         // the highest sequence ever written to this daemon
	// unnamed: up to here, only what names this daemon is unsettled.
	unnamed uint64

	// For the next Progress.
	acked      []cursor.Range               // settled by an ack or a dead letter
	passed     map[protocol.DaemonID]uint64 // named by events that were passed over
	considered int                          // events

	returning bool     // the daemon may have events in hand that were not considered yet
	early     []string // acknowledged meanwhile, oldest first

	survived []string // said to be in progress meanwhile

	echoes []string // acknowledged, and sent again before: each repeat may be acknowledged as well

	suspect uint64 // the event that was tried in vain too often to be sent among others
	atOnce  int    // how many may be unsettled at a time once that is settled

	heard    time.Time // when the daemon said something last
	ackClock time.Time // when the oldest unsettled event was written, or a sign of its progress came
	// oldestSince is since when that one is waited for: it has become the oldest, was
	// written, or said to be in progress itself.
	oldestSince time.Time
	firstWrote  time.Time // when an event was written first
	leftBehind  bool      // the oldest may have been, see sendLeft
	behindAt    time.Time // when one was sent again last because its time was over
	blocked     int       // bytes of the event that last did not fit; 0: none

	dirty    bool // there is something that a crash should not forget
	urgent   bool // and that must not wait
	awaited  bool // the daemon waits to hear that the record says what it wants
	narrowed bool // some subscription was removed since the last Progress
	effects  []Effect
}

// New returns a session for an authenticated connection.
func New(cfg Config) *Session { return &Session{cfg: cfg, returning: true} }

// Take returns the effects since the last call. The slice is valid until the
// next input.
func (s *Session) Take() []Effect {
	if s.dirty && s.phase == phaseRunning {
		s.emit(Save{Now: s.urgent})
		s.dirty, s.urgent = false, false
	}
	out := s.effects
	s.effects = s.effects[:0]
	if cap(s.effects) > 16 {
		s.effects = nil
	}
	return out
}

func (s *Session) emit(e Effect) { s.effects = append(s.effects, e) }

// Subscriptions returns what the connection is subscribed to; not to be modified.
func (s *Session) Subscriptions() []protocol.Subscription { return s.subscriptions }

// Running reports whether the start has been decided.
func (s *Session) Running() bool { return s.phase == phaseRunning }

// Starting reports whether the answer to the Begin of this run is awaited.
func (s *Session) Starting(run uint32) bool {
	return s.phase == phaseStarting && s.startAt.IsZero() && run == s.run
}

// Since returns the generation of the last start of this connection, 0 if there was
// none, or if the daemon has wanted less since than it did.
func (s *Session) Since() uint64 {
	if s.narrowed {
		return 0
	}
	return s.generation
}

// Live reports whether all that is known to be in the log has been considered.
func (s *Session) Live() bool {
	return s.phase == phaseRunning && s.announced && s.complete >= s.target
}

// Unsettled returns the number of events considered and not yet settled.
func (s *Session) Unsettled() int { return s.window.unsettled }

// Position is how far this connection has considered the log.
func (s *Session) Position() eventlog.Position { return s.position(s.complete) }

func (s *Session) position(sequence uint64) eventlog.Position {
	return eventlog.Position{Partition: s.cfg.Partition, Epoch: s.epoch, Sequence: sequence}
}

// Started is the answer to Begin: the cursor from which this connection
// continues, which has been written.
func (s *Session) Started(run uint32, epoch eventlog.Epoch, entry cursor.Entry, resumed bool, now time.Time) {
	if s.phase != phaseStarting || run != s.run {
		return
	}
	s.resumed, s.decided, s.generation = resumed && (s.resumed || !s.decided), true, entry.Generation
	if s.urgent && !cursor.Covers(entry.Subscriptions, s.subscriptions) {
		s.startAgain(now)
		return
	}
	s.dirty, s.urgent = false, false
	s.phase, s.startAt, s.retries = phaseRunning, time.Time{}, 0
	s.epoch = epoch
	s.answersFor, s.unnamed = entry.AnswersFor, entry.Unnamed
	s.complete, s.target, s.cause = entry.Floor, entry.Floor, CauseAttach
	s.known, s.sends, s.sent = entry.Settled, entry.Sends, entry.Sent
	s.suspectOldest()
	s.believe()
	s.ask()
}

// startAgain has the start decided once more, because the one before may not know
// of all that the daemon has subscribed to. It is not told that this has taken
// effect before whoever may take it over can know of it: if this edge crashed then,
// one that wants less would pass what only this daemon wants (invariant 1).
func (s *Session) startAgain(now time.Time) {
	s.believeLater(s.epoch, s.target)
	s.run++
	s.phase, s.urgent = phaseStarting, true
	s.asking, s.reading, s.askNext, s.retryAt = false, false, false, time.Time{}
	s.begin(now)
}

// StartFailed is the other answer to Begin: it is tried again.
func (s *Session) StartFailed(run uint32, now time.Time) {
	if s.phase == phaseStarting && run == s.run {
		s.startAt = now.Add(s.backoff())
	}
}

// EpochChanged says that sequences known so far mean nothing any more: the
// session starts again from the oldest retained event.
func (s *Session) EpochChanged(epoch eventlog.Epoch, now time.Time) {
	switch {
	case s.phase == phaseStarting && s.startAt.IsZero():
		s.run++
		s.begin(now)
	case s.phase == phaseRunning && epoch.Newer(s.epoch):
		s.run++
		s.epoch = epoch
		s.complete, s.target, s.sent, s.cause = 0, 0, 0, CauseEpoch
		s.known, s.sends, s.window = nil, cursor.Sends{}, window{}
		s.unnamed, s.acked, s.passed, s.echoes = 0, nil, nil, nil
		s.returning = true
		s.suspectOldest()
		s.asking, s.reading, s.askNext, s.blocked = false, false, false, 0
		s.retryAt, s.refillAt, s.ackClock, s.retries = time.Time{}, time.Time{}, time.Time{}, 0
		s.leftBehind, s.dirty, s.urgent = false, true, s.urgent || s.awaited
		s.believe()
		s.ask()
	}
}

// Forwarded is an event from a router, with the router's claim that the
// orchestrator has no other event between after and it.
func (s *Session) Forwarded(epoch eventlog.Epoch, c *Candidate, after uint64, now time.Time) {
	if !s.current(epoch, c.message.Sequence) || c.message.Sequence <= s.complete {
		return
	}
	if s.announced && after <= s.complete && !s.held(c, now) && s.fits(len(c.message.Body)) {
		s.consider(c)
		if s.complete >= s.target {
			s.caughtUp()
		}
		s.pump(now)
		return
	}
	// Not believed, held, no room, or not begun: remembered as a hint, never dropped,
	// because the answer under way may come from a replica that lags behind it.
	s.raise(c.message.Sequence, CauseGap, now)
}

// Hint says that the orchestrator's newest event stands at sequence or later.
func (s *Session) Hint(epoch eventlog.Epoch, sequence uint64, now time.Time) {
	if s.current(epoch, sequence) {
		s.raise(sequence, CauseHint, now)
	}
}

// rumour is that the log holds something up to sequence in an epoch.
type rumour struct {
	epoch    eventlog.Epoch
	sequence uint64
}

// current reports whether what a router says of a sequence in an epoch can be
// used now. Else it is remembered as a rumour if it may be of use later: before
// the session runs, and in an epoch that it will learn of, the router may say it
// once and not again.
func (s *Session) current(epoch eventlog.Epoch, sequence uint64) bool {
	if s.phase == phaseRunning && epoch == s.epoch {
		return true
	}
	s.believeLater(epoch, sequence)
	if s.phase == phaseRunning {
		s.emit(RefreshEpoch{})
	}
	return false
}

// believeLater remembers a rumour, unless one of a later epoch is known.
func (s *Session) believeLater(epoch eventlog.Epoch, sequence uint64) {
	switch {
	case epoch.Newer(s.rumour.epoch):
		s.rumour = rumour{epoch, sequence}
	case epoch == s.rumour.epoch:
		s.rumour.sequence = max(s.rumour.sequence, sequence)
	}
}

// believe raises the target to the rumour of the session's epoch. One of a later
// epoch is kept until the session learns of that.
func (s *Session) believe() {
	switch {
	case s.rumour.epoch == s.epoch:
		s.target = max(s.target, s.rumour.sequence)
	case s.rumour.epoch.Newer(s.epoch):
		s.emit(RefreshEpoch{})
	}
}

func (s *Session) raise(target uint64, cause Cause, now time.Time) {
	if target <= s.complete || target <= s.target {
		return
	}
	if s.complete >= s.target {
		s.cause = cause
	}
	if s.blocked > 0 {
		s.cause = CauseWindow
	}
	s.target = target
	s.pump(now)
}

// Tick lets time pass. It is wanted at Wake, and harmless at any other time.
func (s *Session) Tick(now time.Time) {
	switch s.phase {
	case phaseStarting:
		if !s.startAt.IsZero() && !now.Before(s.startAt) {
			s.startAt = time.Time{}
			s.begin(now)
		}
	case phaseRunning:
		s.tickOldest(now)
		s.pump(now)
	}
}

// Wake returns when the next Tick is wanted; zero: only after another input.
func (s *Session) Wake() time.Time {
	if s.phase != phaseRunning {
		return s.startAt
	}
	wake := s.oldestDue()
	for _, t := range []time.Time{s.retryAt, s.refillAt} {
		if !t.IsZero() && (wake.IsZero() || t.Before(wake)) {
			wake = t
		}
	}
	return wake
}

func (s *Session) begin(now time.Time) { s.emit(Begin{Run: s.run, Patient: now.Before(s.startBy)}) }

func (s *Session) backoff() time.Duration {
	d := min(retryFirst<<min(s.retries, 10), retryMost)
	s.retries++
	return d
}
