package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// readsNothing subscribes and never reads again.
func readsNothing(ctx context.Context, c *client) error {
	w, err := c.listen(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	return c.beat(ctx, w)
}

// beat sends heartbeats, and nothing else, until the connection ends, so that
// it is not closed for their lack.
func (c *client) beat(ctx context.Context, w *wire) error {
	for ; ctx.Err() == nil; traffic.Wait(ctx, time.Second) {
		if err := w.say(protocol.TypeHeartbeat, `{"status":"active"}`); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// readsSlowly takes a byte a second.
func readsSlowly(ctx context.Context, c *client) error {
	w, err := c.listen(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	for sip := make([]byte, 1); ctx.Err() == nil; traffic.Wait(ctx, time.Second) {
		if _, err := w.Read(sip); err != nil {
			return err
		}
		if err := w.say(protocol.TypeHeartbeat, `{"status":"active"}`); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// readsEventsSlowly asks for all events by HTTP, and takes a byte a second of the
// answer.
func readsEventsSlowly(ctx context.Context, c *client) error {
	token, err := c.mint(c.daemon())
	if err != nil {
		return err
	}
	conn, _, err := c.dialEdge(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err = fmt.Fprintf(conn, "GET %s?limit=1000 HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n\r\n", httpevents.Path, token)
	for sip := make([]byte, 1); err == nil && ctx.Err() == nil; traffic.Wait(ctx, time.Second) {
		_, err = conn.Read(sip)
	}
	return err
}

// neverAcks reads all and acknowledges nothing.
func neverAcks(ctx context.Context, c *client) error {
	return c.follow(ctx, func(*wire, string) error { return nil })
}

// acksTwice acknowledges each event twice.
func acksTwice(ctx context.Context, c *client) error {
	return c.follow(ctx, func(w *wire, id string) error {
		ack := fmt.Sprintf(`{"eventIds":[%q,%q]}`, id, id)
		if err := w.say(protocol.TypeAck, ack); err != nil {
			return err
		}
		return w.say(protocol.TypeAck, ack)
	})
}

// follow subscribes, reads on, and tells the ids of events.
func (c *client) follow(ctx context.Context, onEvent func(w *wire, id string) error) error {
	w, err := c.listen(ctx, true)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	var beating sync.WaitGroup
	defer beating.Wait()
	defer cancel()
	beating.Go(func() { _ = c.beat(ctx, w) }) // the reader knows better why the connection ends
	for {
		text, err := w.hear()
		if err != nil {
			return err
		}
		var m struct {
			Type    protocol.MessageType
			Payload struct{ EventID string }
		}
		if json.Unmarshal(text, &m) != nil || m.Type != protocol.TypeEvent {
			continue
		}
		if err := onEvent(w, m.Payload.EventID); err != nil {
			return err
		}
	}
}

// acksGarbage sends acks without end: as many ids as an ack may name, of events
// that do not exist, or of others'.
func acksGarbage(ctx context.Context, c *client) error {
	ids := make([]string, protocol.MaxAckIDs)
	for i := range ids {
		ids[i] = fmt.Sprintf(`"event-%d"`, i)
	}
	ack := frame(opText, true, message(protocol.TypeAck, `{"eventIds":[`+strings.Join(ids, ",")+`]}`))
	return c.flood(ctx, ack)
}
