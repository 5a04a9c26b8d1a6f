package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Config says whom a Client connects to, as whom, and what it does with events.
// URLs, Token, OrchestratorID, DaemonID and Handler are required; every other
// zero field means its default.
type Config struct {
	// URLs of gateways, ws:// or wss:// with path; each attempt takes the next.
	URLs []string
	// Token returns an access token. It is called for every connection and when
	// the gateway asks for a fresh one; what it returned before may have
	// expired. An error counts as a failed attempt.
	Token          func(ctx context.Context) (string, error)
	OrchestratorID protocol.OrchestratorID
	DaemonID       protocol.DaemonID
	// Subscriptions are sent on every connection, in this order. Empty: none,
	// so that no events come.
	Subscriptions []protocol.Subscribe
	// Handler processes one event at a time, in the order of arrival. When it
	// returns nil the event is acknowledged; with ErrNoAck that is left to
	// Client.Ack; with another error it is not, and the gateway sends it again
	// later. While it runs, heartbeats name the event as in progress, or the one
	// behind it that waits for its ack. Its context ends with Run's.
	Handler func(ctx context.Context, event protocol.Event) error

	// Resume returns the position to continue after, or "" for the gateway's
	// own cursor. It is called before each connection. Nil: always the cursor.
	Resume func() string
	// Health returns what a heartbeat reports; its InProgress is for events that
	// are worked on after the handler has returned ErrNoAck. Nil: active, no
	// metrics.
	Health func() protocol.Heartbeat
	// Backoff paces new connections.
	Backoff Backoff

	// ConnectTimeout bounds token, dialing and authentication together; 15 s.
	ConnectTimeout time.Duration
	// HeartbeatInterval is how often heartbeats are sent, if that is more often than
	// the gateway asks for; 0: as often as it asks.
	HeartbeatInterval time.Duration
	// HeartbeatTimeout is how long the gateway may stay silent after a
	// heartbeat before the connection counts as dead; the interval that it asks for.
	HeartbeatTimeout time.Duration
	// WriteTimeout bounds the writing of one frame; 10 s.
	WriteTimeout time.Duration
	// CloseTimeout bounds the wait for the gateway's answer to a close; 1 s.
	CloseTimeout time.Duration
	// AckInterval is the least time between two ack messages; what is
	// acknowledged meanwhile goes into one; 20 ms. The gateway accepts 6,000
	// ack messages a minute.
	AckInterval time.Duration
	// MaxMessageBytes is the largest frame accepted; 1 MiB.
	MaxMessageBytes int64

	// DialContext opens the network connection; net.Dialer by default.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLSConfig is used for wss; nil: the default.
	TLSConfig *tls.Config
	// Header is added to the upgrade request.
	Header http.Header

	// OnState is told of every change of state, one call at a time.
	OnState func(StateChange)
	// OnFrame sees every frame. Calls for received frames come one at a time,
	// as do those for sent ones, but both may run at once.
	OnFrame func(Frame)
	// Logger gets what is worth knowing; nil: nothing is logged.
	Logger *slog.Logger
}

// Backoff is how long to wait before connecting again: a random time between 0
// and Min*Factor^n, at most Max, where n counts the failures in a row.
type Backoff struct {
	// Min bounds the first delay; 1 s.
	Min time.Duration
	// Max bounds every delay; 60 s.
	Max time.Duration
	// Factor is at least 1; 2.
	Factor float64
	// Healthy is how long a connection must have lived, once authenticated, for
	// the count to start at 0 again; 30 s.
	Healthy time.Duration
}

func (b Backoff) delay(attempt int) time.Duration {
	bound := min(float64(b.Min)*math.Pow(b.Factor, float64(attempt)), float64(b.Max))
	return time.Duration(rand.Float64() * bound)
}

func (c Config) withDefaults() Config {
	setDefault(&c.Backoff.Min, time.Second)
	setDefault(&c.Backoff.Max, time.Minute)
	setDefault(&c.Backoff.Factor, 2)
	setDefault(&c.Backoff.Healthy, 30*time.Second)
	setDefault(&c.ConnectTimeout, 15*time.Second)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.CloseTimeout, time.Second)
	setDefault(&c.AckInterval, 20*time.Millisecond)
	setDefault(&c.MaxMessageBytes, 1<<20)
	if c.Health == nil {
		c.Health = func() protocol.Heartbeat { return protocol.Heartbeat{Status: protocol.StatusActive} }
	}
	if c.OnState == nil {
		c.OnState = func(StateChange) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports every mistake at once.
func (c Config) validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.URLs) == 0 {
		report("URLs is empty")
	}
	for _, text := range c.URLs {
		if u, err := url.Parse(text); err != nil {
			report("URLs: %w", err)
		} else if u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
			report("URLs: %q: expected ws://host/path or wss://host/path", u.Redacted())
		}
	}
	if c.Token == nil {
		report("Token is not set")
	}
	if c.Handler == nil {
		report("Handler is not set")
	}
	if err := c.OrchestratorID.Validate(); err != nil {
		report("OrchestratorID: %w", err)
	}
	if err := c.DaemonID.Validate(); err != nil {
		report("DaemonID: %w", err)
	}
	errs = append(errs, c.validateSubscriptions(), c.validateNumbers())
	return errors.Join(errs...)
}

func (c Config) validateSubscriptions() error {
	var errs []error
	total := 0
	for i, s := range c.Subscriptions {
		total += len(s.EventTypes)
		if len(s.EventTypes) == 0 {
			errs = append(errs, fmt.Errorf("subscription %d names no event type", i))
		}
		if len(s.ChannelIDs) > protocol.MaxChannelIDs {
			errs = append(errs, fmt.Errorf("subscription %d names %d channels, expected at most %d", i, len(s.ChannelIDs), protocol.MaxChannelIDs))
		}
		for _, p := range s.EventTypes {
			if err := p.Validate(); err != nil {
				errs = append(errs, fmt.Errorf("subscription %d: %w", i, err))
			}
		}
	}
	if total > protocol.MaxSubscriptions {
		errs = append(errs, fmt.Errorf("subscriptions name %d event types, expected at most %d", total, protocol.MaxSubscriptions))
	}
	return errors.Join(errs...)
}

func (c Config) validateNumbers() error {
	var errs []error
	for name, d := range map[string]time.Duration{
		"Backoff.Min": c.Backoff.Min, "Backoff.Max": c.Backoff.Max, "Backoff.Healthy": c.Backoff.Healthy,
		"ConnectTimeout": c.ConnectTimeout, "WriteTimeout": c.WriteTimeout,
		"HeartbeatInterval": c.HeartbeatInterval, "HeartbeatTimeout": c.HeartbeatTimeout,
		"CloseTimeout": c.CloseTimeout, "AckInterval": c.AckInterval, "MaxMessageBytes": time.Duration(c.MaxMessageBytes),
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", name))
		}
	}
	if c.Backoff.Max < c.Backoff.Min {
		errs = append(errs, errors.New("Backoff.Max is less than Backoff.Min"))
	}
	if !(c.Backoff.Factor >= 1) {
		errs = append(errs, errors.New("Backoff.Factor is less than 1"))
	}
	return errors.Join(errs...)
}
