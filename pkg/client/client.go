package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// queuedEvents is how many events may wait for the handler; one window of the
// gateway, so that its other messages are not held up by a slow handler.
const queuedEvents = 128

// Client is one daemon. Run does the work; Ack may be called at any time and
// from any goroutine.
type Client struct {
	cfg    Config
	http   *http.Client
	events chan *protocol.Event
	acks   *acks
	memory *memory
	begun  atomic.Bool

	reporting sync.Mutex // one call of OnState at a time
}

// New checks the configuration; it does not connect. The error names every
// mistake.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("client configuration: %w", err)
	}
	cfg.Logger = cfg.Logger.With("component", "client", "orchestrator", string(cfg.OrchestratorID), "daemon", string(cfg.DaemonID))
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: cfg.DialContext, TLSClientConfig: cfg.TLSConfig}
	return &Client{
		cfg:    cfg,
		http:   &http.Client{Transport: transport},
		events: make(chan *protocol.Event, queuedEvents),
		acks:   newAcks(),
		memory: newMemory(),
	}, nil
}

// Ack acknowledges events whose handler returned ErrNoAck. It does not wait:
// the ids are sent with the next ack message, on this connection or the next.
// What no event can have as its id is left out, because the gateway would
// refuse the whole message for it.
func (c *Client) Ack(eventIDs ...string) {
	c.memory.acknowledged(eventIDs)
	c.acks.add(slices.DeleteFunc(slices.Clone(eventIDs), func(id string) bool {
		return id == "" || len(id) > protocol.MaxIDBytes || !utf8.ValidString(id)
	})...)
}

var errBegun = errors.New("client: Run was called before")

// Run connects and stays connected until ctx ends, which it reports as nil, or
// until the gateway refuses this daemon for good, which is a *RejectedError.
// Every other failure is retried. It may be called once. When it returns, the
// handler has returned as well; events that need an ack come again if they
// were not handled before ctx ended.
func (c *Client) Run(ctx context.Context) error {
	if c.begun.Swap(true) {
		return errBegun
	}
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		c.handle(ctx)
	}()
	err := c.stayConnected(ctx)
	close(c.events) // all readers have ended
	<-handled
	c.http.CloseIdleConnections()
	c.report(StateChange{State: StateStopped, Err: err})
	return err
}

func (c *Client) stayConnected(ctx context.Context) error {
	failures := 0
	for n := 0; ; n++ {
		url := c.cfg.URLs[n%len(c.cfg.URLs)]
		end := c.connect(ctx, url)
		if end.lived >= c.cfg.Backoff.Healthy {
			failures = 0
		}
		advice := end.advice()
		stop := ctx.Err() != nil || advice == protocol.ReconnectNever
		if !stop {
			end.delay = c.delay(end, advice, failures)
		}
		c.report(end.change(url))
		switch {
		case ctx.Err() != nil:
			return nil
		case stop:
			return end.rejected()
		}
		failures++
		if !sleep(ctx, end.delay) {
			return nil
		}
	}
}

// delay is how long to wait after a connection ended that way.
func (c *Client) delay(end ending, advice protocol.Reconnect, failures int) time.Duration {
	b := c.cfg.Backoff
	if end.lost() {
		// The node died while it sent its clients away: nobody is served until
		// the time that it gave, and others take what it had left.
		end.asked, end.leaveAt = false, time.Time{}
	}
	switch {
	case end.asked && end.lived >= b.Min:
		// The gateway spread its clients over time already: what is left of its
		// delay if it closed early itself. One that asks again and again at once
		// is met with the usual backoff.
		return max(0, time.Until(end.leaveAt))
	case advice == protocol.ReconnectSlowly:
		return b.Max/2 + b.delay(1<<10)/2
	}
	delay := max(b.delay(failures), time.Until(end.leaveAt))
	var refused *HandshakeError
	if errors.As(end.err, &refused) {
		delay = max(delay, min(refused.RetryAfter, b.Max))
	}
	return delay
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// handle is the only caller of the handler; it outlives connections, so that
// events of an old one are handled before those of the next.
func (c *Client) handle(ctx context.Context) {
	for e := range c.events {
		if ctx.Err() != nil {
			continue
		}
		c.memory.begin(time.Now())
		switch err := c.cfg.Handler(ctx, *e); {
		case err == nil:
			c.memory.end(e.EventID, done)
			if e.RequiresAck {
				c.Ack(e.EventID)
			}
		case errors.Is(err, ErrNoAck):
			c.memory.end(e.EventID, inHand)
		default:
			c.memory.end(e.EventID, unknown)
			c.cfg.Logger.Warn("handler failed, the event is not acknowledged", "event", e.EventID, "error", err)
		}
	}
}

func (c *Client) report(change StateChange) {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	change.Time = time.Now()
	c.cfg.OnState(change)
}

// ending is how a connection, or the attempt at one, came to its end.
type ending struct {
	code   protocol.CloseCode
	reason string
	local  bool
	err    error
	// refused is the auth_error received, if any.
	refused *protocol.AuthError
	// asked: the gateway asked to reconnect, at leaveAt.
	asked   bool
	leaveAt time.Time
	// lived is the time since authentication; 0 without.
	lived   time.Duration
	session protocol.SessionID
	delay   time.Duration
}

// lost reports whether a connection that was in use broke off, closed by nobody.
func (e ending) lost() bool { return e.lived > 0 && e.code == protocol.CloseAbnormal }

func (e ending) advice() protocol.Reconnect {
	if e.refused != nil {
		return e.refused.Code.CloseCode().Reconnect()
	}
	return e.code.Reconnect()
}

func (e ending) rejected() error {
	if e.refused != nil {
		return &RejectedError{Code: e.refused.Code, Message: e.refused.Message, Close: e.refused.Code.CloseCode()}
	}
	return &RejectedError{Message: e.reason, Close: e.code}
}

func (e ending) change(url string) StateChange {
	return StateChange{
		State: StateDisconnected, URL: url, SessionID: e.session,
		Close: e.code, Reason: e.reason, Local: e.local, Err: e.err, Delay: e.delay,
	}
}
