// Package audit writes down who was let in, who was not, and why: a line at info
// for each, with the same attributes everywhere, so that they can be kept and
// searched. Never a token or a secret.
//
// Whoever attacks must not fill the log: lines of one act and reason are limited,
// and those left out are counted and told of, by the next such line or within a
// minute. What an operator asks for is never left out.
package audit

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/metric"
)

// Act is what happened: a closed set of labels.
type Act string

// The acts.
const (
	TokenRefused      Act = "token_refused"
	ConnectionRefused Act = "connection_refused" // before anybody has authenticated
	RequestRefused    Act = "request_refused"    // by HTTP
	OverLimit         Act = "over_limit"         // of somebody who has authenticated
	SessionBegan      Act = "session_began"
	SessionEnded      Act = "session_ended"
	OperatorActed     Act = "operator_acted" // such as a revocation
	EventRefused      Act = "event_refused"  // what came from Redis
)

var acts = []Act{TokenRefused, ConnectionRefused, RequestRefused, OverLimit, SessionBegan, SessionEnded, OperatorActed, EventRefused}

// refusing are the acts that keep somebody out, or hold them up.
var refusing = []Act{TokenRefused, ConnectionRefused, RequestRefused, OverLimit}

const (
	// perSecond lines of each act and reason are written in the long run, and burst
	// at once; of sessions more, since a fleet that comes back is no attack.
	perSecond, burst                 = 5, 50
	sessionsPerSecond, sessionsBurst = 50, 1000
	// maxReasons bounds what is remembered; reasons are closed sets, far smaller.
	maxReasons   = 500
	tellInterval = time.Minute
)

// Log writes audit lines. Its methods may be called at the same time, and hold
// nobody up. A nil *Log writes nothing.
type Log struct {
	logger     *slog.Logger
	written    metric.Counters[Act]
	suppressed metric.Counters[Act]

	recent *recent

	mu    sync.Mutex
	kinds map[kind]*budget
}

type kind struct {
	act    Act
	reason string
}

// budget is what one kind of line may take.
type budget struct {
	limiter *rate.Limiter
	left    int // lines left out since the last that was written
}

// New returns a log whose lines say which node they are of, as the logger does.
func New(logger *slog.Logger, reg prometheus.Registerer) *Log {
	records := metric.CounterVec(reg, "gateway_audit_records_total",
		"What was to be written into the audit log: written, or suppressed because there was too much of the kind.", "act", "outcome")
	return &Log{
		logger:     logger.With("component", "audit"),
		written:    metric.CountersOf(records.MustCurryWith(prometheus.Labels{"outcome": "written"}), acts...),
		suppressed: metric.CountersOf(records.MustCurryWith(prometheus.Labels{"outcome": "suppressed"}), acts...),
		recent:     newRecent(),
		kinds:      map[kind]*budget{},
	}
}

// Refusals returns who was refused or limited lately.
func (l *Log) Refusals() Refusals { return l.recent.all(time.Now()) }

// Write writes a line: what happened, why, and who did it from where. attributes
// are those of package slog.
func (l *Log) Write(act Act, reason string, attributes ...any) {
	if l == nil {
		return
	}
	now := time.Now()
	if slices.Contains(refusing, act) {
		l.recent.note(act, reason, attributes, now)
	}
	left, ok := l.spend(kind{act, reason}, now)
	if !ok {
		l.suppressed.Of(act).Inc()
		return
	}
	if left > 0 {
		attributes = append(attributes, "suppressed", left)
	}
	l.write(act, reason, attributes)
}

// Acted writes a line for what an operator has asked for: each of them, since nobody
// else can cause one.
func (l *Log) Acted(what string, attributes ...any) {
	if l != nil {
		l.write(OperatorActed, what, attributes)
	}
}

func (l *Log) write(act Act, reason string, attributes []any) {
	l.written.Of(act).Inc()
	line := []any{"act", string(act)}
	if reason != "" {
		line = append(line, "reason", reason)
	}
	l.logger.Info("audit", append(line, attributes...)...)
}

// spend takes a line off the budget of its kind, and returns how many were left
// out before it.
func (l *Log) spend(k kind, now time.Time) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.kinds[k]
	if b == nil {
		if len(l.kinds) >= maxReasons {
			return 0, false
		}
		b = newBudget(k.act)
		l.kinds[k] = b
	}
	if !b.limiter.AllowN(now, 1) {
		b.left++
		return 0, false
	}
	left, b.left = b.left, 0
	return left, true
}

func newBudget(act Act) *budget {
	if act == SessionBegan || act == SessionEnded {
		return &budget{limiter: rate.NewLimiter(sessionsPerSecond, sessionsBurst)}
	}
	return &budget{limiter: rate.NewLimiter(perSecond, burst)}
}

// Run tells what was left out until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	lifecycle.Every(ctx, tellInterval, func(time.Time) { l.tell() })
	l.tell()
	return nil
}

// tell writes how many lines of each kind were left out.
func (l *Log) tell() {
	type owed struct {
		kind
		left int
	}
	var all []owed
	l.mu.Lock()
	for k, b := range l.kinds {
		if b.left > 0 {
			all = append(all, owed{k, b.left})
			b.left = 0
		}
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b owed) int { return cmp.Or(cmp.Compare(a.act, b.act), cmp.Compare(a.reason, b.reason)) })
	for _, o := range all {
		l.logger.Info("audit lines left out", "act", string(o.act), "reason", o.reason, "suppressed", o.left)
	}
}
