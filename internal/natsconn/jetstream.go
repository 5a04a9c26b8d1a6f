package natsconn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

const (
	// jetStreamLook is how often the server is asked whether there is JetStream
	// behind it, and jetStreamLooks how many answers in a row must say no.
	jetStreamLook  = 2 * time.Second
	jetStreamLooks = 2
	// strangeLooks must not have found the gateway's streams where they were before:
	// a router makes those anew that were lost, if it may.
	strangeLooks = 5
	// A connection to a server without JetStream is given up at once, and then less
	// and less often: where no server has it, edges and routers still talk over it.
	leaveFirst = 10 * time.Second
	leaveMost  = 2 * time.Minute
	// jetStreamQuestion is a stream that every user may ask for, whether it is there
	// or not; what a user may not ask, the server reports as a violation.
	jetStreamQuestion = "KV_gateway_cluster"
)

// errStrange is of a server that has JetStream, and not what was in it.
var errStrange = errors.New("the gateway's streams are not there any more: the address leads to another cluster, " +
	"the user is of another account, or they were deleted; if that is meant, restart the nodes")

// watchJetStream gives up a connection that works, to a server that nobody with
// JetStream is behind, or with the streams that were there: JetStream was switched
// off there or for the account, or the server's name leads to another one now. The
// library then takes the next server, and resolves the name again. An outage of
// JetStream is none of that: its servers answer, or do not.
func (c *Conn) watchJetStream(ctx context.Context) {
	misses, leave := 0, leaveFirst
	var next time.Time
	lifecycle.Every(ctx, jetStreamLook, func(now time.Time) {
		if !c.Up() {
			return
		}
		err := c.askForJetStream(ctx)
		looks := jetStreamLooks
		if err == nil {
			c.FoundStreams()
		}
		switch {
		case err == nil, errors.Is(err, jetstream.ErrStreamNotFound) && !c.home.Load():
			misses, leave = 0, leaveFirst
			c.lacking.Store(nil)
			c.jetStream.Over()
			return
		case errors.Is(err, jetstream.ErrStreamNotFound):
			err, looks = errStrange, strangeLooks
		case isWithoutJetStream(err):
			err = fmt.Errorf("there is no JetStream%s behind it: %w", c.ofDomain(), err)
		default:
			return
		}
		if misses++; misses < looks {
			return
		}
		c.lacking.Store(&err)
		if now.Before(next) {
			return
		}
		next, leave = now.Add(leave), min(2*leave, leaveMost)
		c.jetStream.Failed(c.NC.ConnectedUrlRedacted(), err.Error(), jetStreamLook)
		misses = 0
		_ = c.NC.ForceReconnect() // fails only when it is closed
	})
}

// FoundStreams says that the gateway's streams are there: from now on a server that
// has none of them is not where they were. Whoever has opened the log knows that
// before the watch has looked once.
func (c *Conn) FoundStreams() { c.home.Store(true) }

func isWithoutJetStream(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount)
}

func (c *Conn) ofDomain() string {
	if domain := c.JS.Options().Domain; domain != "" {
		return " of the domain " + domain
	}
	return ""
}

func (c *Conn) askForJetStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, jetStreamLook)
	defer cancel()
	_, err := c.JS.Stream(ctx, jetStreamQuestion)
	return err
}
