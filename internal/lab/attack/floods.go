package attack

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// flood enters, subscribes, and then writes the same bytes for ever, as fast as
// the edge takes them, while it throws away what it is told.
func (c *client) flood(ctx context.Context, what []byte) error {
	w, err := c.listen(ctx, true)
	if err != nil {
		return err
	}
	return c.pour(w, nil, what)
}

// pour writes first, and then what for ever, and returns how the connection ended.
func (c *client) pour(w *wire, first, what []byte) error {
	heard := make(chan error, 1)
	go func() {
		for {
			if _, err := w.hear(); err != nil {
				heard <- err
				return
			}
		}
	}()
	// Some frames a write, or this machine would measure the client.
	what = bytes.Repeat(what, max(1, (16<<10)/len(what)))
	_, err := w.Write(first)
	for err == nil {
		_, err = w.Write(what)
	}
	// A closed connection may still have the edge's close frame to be read; the
	// edge ends it in bounded time.
	err = <-heard
	_ = w.Close()
	return err
}

// subscribes subscribes to as much as it may and unsubscribes, without end.
func subscribes(ctx context.Context, c *client) error {
	var types []byte
	for i := range protocol.MaxSubscriptions {
		if i > 0 {
			types = append(types, ',')
		}
		types = fmt.Appendf(types, `"message.kind%d"`, i)
	}
	payload := fmt.Sprintf(`{"eventTypes":[%s]}`, types)
	return c.flood(ctx, append(frame(opText, true, message(protocol.TypeSubscribe, payload)),
		frame(opText, true, message(protocol.TypeUnsubscribe, payload))...))
}

func beatsWithoutEnd(ctx context.Context, c *client) error {
	return c.flood(ctx, frame(opText, true, message(protocol.TypeHeartbeat, `{"status":"active"}`)))
}

// nonsense is text that is no message.
func nonsense(ctx context.Context, c *client) error {
	return c.flood(ctx, frame(opText, true, []byte(`{}`)))
}

// nonsenseAtTheDoor is nonsense of a client that never authenticates.
func nonsenseAtTheDoor(ctx context.Context, c *client) error {
	w, err := c.connect(ctx, true)
	if err != nil {
		return err
	}
	return c.pour(w, nil, frame(opText, true, []byte(`{}`)))
}

func pings(ctx context.Context, c *client) error {
	return c.flood(ctx, frame(opPing, true, nil))
}

// fragments begins a message and continues it with nothing, for ever.
func fragments(ctx context.Context, c *client) error {
	w, err := c.enter(ctx, c.daemon(), true)
	if err != nil {
		return err
	}
	return c.pour(w, frame(opText, false, []byte(`{`)), frame(opContinuation, false, nil))
}

// tooLarge sends messages over every limit.
func tooLarge(ctx context.Context, c *client) error {
	w, err := c.connect(ctx, true)
	if err != nil {
		return err
	}
	return c.pour(w, nil, frame(opText, true, bytes.Repeat([]byte("x"), 4<<20)))
}

// opensAndCloses comes and goes, under its own id and under new ones in turn.
func opensAndCloses(ctx context.Context, c *client) error {
	daemon := c.daemon()
	if c.turn%2 == 1 {
		daemon = protocol.DaemonID(fmt.Sprintf("%s-%d", daemon, c.turn))
	}
	w, err := c.enter(ctx, daemon, true)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	if err := w.say(protocol.TypeSubscribe, subscribeToAll); err != nil {
		return err
	}
	if _, err := w.hear(); err != nil {
		return err
	}
	return errDone
}

// longNames subscribes to as long names as fit a message, each of which is wrong.
func longNames(ctx context.Context, c *client) error {
	names := strings.Repeat(`"`+strings.Repeat("x", 1200)+`",`, protocol.MaxSubscriptions)
	return c.flood(ctx, frame(opText, true, message(protocol.TypeSubscribe, `{"eventTypes":[`+strings.TrimSuffix(names, ",")+`]}`)))
}

// knocks upgrades and leaves at once.
func knocks(ctx context.Context, c *client) error {
	w, err := c.connect(ctx, true)
	if err != nil {
		return err
	}
	return errors.Join(w.Close(), errDone)
}

// lingers upgrades and says nothing.
func lingers(ctx context.Context, c *client) error {
	w, err := c.connect(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	_, err = w.hear()
	return err
}

// halfFrame begins a frame and never ends it.
func halfFrame(ctx context.Context, c *client) error {
	w, err := c.connect(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	whole := frame(opText, true, bytes.Repeat([]byte(" "), 60<<10))
	if _, err := w.Write(whole[:len(whole)/2]); err != nil {
		return err
	}
	_, err = w.hear()
	return err
}

// halfRequest begins an upgrade and never ends its headers.
func halfRequest(ctx context.Context, c *client) error {
	return c.begin(ctx, func(path string) string { return strings.TrimSuffix(upgradeRequest(path), "\r\n") })
}

// halfBody declares a body where none is expected, and never sends it.
func halfBody(ctx context.Context, c *client) error {
	return c.begin(ctx, func(path string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n"
	})
}

// mute connects and says nothing at all.
func mute(ctx context.Context, c *client) error {
	return c.begin(ctx, func(string) string { return "" })
}

// begin connects, sends what is no whole request, and waits for what comes of it.
func (c *client) begin(ctx context.Context, request func(path string) string) error {
	conn, path, err := c.dialEdge(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, request(path)); err != nil {
		return err
	}
	return c.answered(conn)
}

// answered waits for an answer by HTTP, and then until the connection ends.
func (c *client) answered(conn net.Conn) error {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return cmp.Or(err, error(refused(resp.StatusCode)))
}
