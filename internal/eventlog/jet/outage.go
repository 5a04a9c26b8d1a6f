package jet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// requestTimeout bounds each request to the log, so that none hangs on an
// answer that was lost.
const requestTimeout = 5 * time.Second

var errConnectionLost = errors.New("connection to NATS lost")

// outages ends the requests that are under way when the connection is lost,
// whose answers will not come: to wait for them would add the request timeout
// to every outage.
type outages struct {
	mu  sync.Mutex
	ctx context.Context // ends with the connection that is up now
	end context.CancelCauseFunc
}

// watchOutages starts a goroutine that ends when nc is closed. Whenever the
// connection is lost it also calls lost.
func watchOutages(nc *nats.Conn, lost func()) *outages {
	o := &outages{}
	o.ctx, o.end = context.WithCancelCause(context.Background())
	changes := nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	go func() {
		for status := range changes {
			o.lost()
			lost()
			if status == nats.CLOSED {
				return
			}
		}
	}()
	if nc.IsClosed() {
		nc.RemoveStatusListener(changes)
	}
	return o
}

func (o *outages) lost() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end(errConnectionLost)
	o.ctx, o.end = context.WithCancelCause(context.Background())
}

func (o *outages) connection() context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ctx
}

// Request does one request to NATS, within the request timeout, and classifies
// its error.
func (c *Client) Request(ctx context.Context, f func(context.Context) error) error {
	return c.Bounded(ctx, requestTimeout, f)
}

// Bounded is Request with another timeout. Where that or the connection ends
// it, the error is ErrUnavailable; where the caller's context does, it is that
// context's.
func (c *Client) Bounded(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	ending, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.outages.connection(), func() { cancel(errConnectionLost) })()
	bounded, stop := context.WithTimeout(ending, timeout)
	defer stop()
	err := f(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(bounded))
	}
	return Classify(err)
}
