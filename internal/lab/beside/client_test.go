package beside_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// goClient is what daemons do with coder/websocket, which pkg/client is built on.
func goClient(t *testing.T, host string) (all []string) {
	t.Helper()
	const message = `{"type":"heartbeat","id":"1","timestamp":"2026-11-22T10:00:00.000Z","payload":{}}`
	write := func(text string) func(context.Context, *websocket.Conn) error {
		return func(ctx context.Context, c *websocket.Conn) error {
			return c.Write(ctx, websocket.MessageText, []byte(text))
		}
	}
	for _, s := range []struct {
		name    string
		options websocket.DialOptions
		say     func(context.Context, *websocket.Conn) error
		close   websocket.StatusCode
	}{
		{name: "no options"},
		{name: "one subprotocol", options: websocket.DialOptions{Subprotocols: []string{"neolith.v1"}}},
		{name: "two subprotocols", options: websocket.DialOptions{Subprotocols: []string{"b", "a"}}},
		{name: "compression with context", options: websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover}},
		{name: "compression without context", options: websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover}},
		{name: "headers of its own", options: websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer x"}, "Origin": {"null"}}}},
		{name: "another host", options: websocket.DialOptions{Host: "neolith.example:8443"}},
		{name: "fragments", say: func(ctx context.Context, c *websocket.Conn) error {
			w, err := c.Writer(ctx, websocket.MessageText)
			for i := 0; i < len(message) && err == nil; i++ {
				_, err = fmt.Fprintf(w, "%c", message[i])
			}
			if err != nil {
				return err
			}
			return w.Close()
		}},
		{name: "a binary message", say: func(ctx context.Context, c *websocket.Conn) error {
			return c.Write(ctx, websocket.MessageBinary, []byte(message))
		}},
		{name: "the largest message", say: write(message + strings.Repeat(" ", 64<<10-len(message)))},
		{name: "one byte more", say: write(message + strings.Repeat(" ", 64<<10-len(message)+1))},
		{name: "closed with 1001", close: websocket.StatusGoingAway},
		{name: "closed with a code of its own", close: 4321},
	} {
		if s.say == nil {
			s.say = write(message)
		}
		if s.close == 0 {
			s.close = websocket.StatusNormalClosure
		}
		line, err := json.Marshal(map[string]any{"name": s.name, "seen": converse(t, host, &s.options, s.say, s.close)})
		require.NoError(t, err)
		all = append(all, string(line))
	}
	return all
}

// converse says something, waits for the answer, and closes.
func converse(t *testing.T, host string, options *websocket.DialOptions, say func(context.Context, *websocket.Conn) error, code websocket.StatusCode) (seen []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testserver.Patience)
	defer cancel()
	c, answer, err := websocket.Dial(ctx, address(host), options)
	if err != nil {
		return []string{"no connection"}
	}
	defer func() { _ = c.CloseNow() }()
	seen = append(seen, c.Subprotocol(), answer.Header.Get("Sec-WebSocket-Extensions"))
	if err := say(ctx, c); err != nil {
		return append(seen, "cannot say it")
	}
	for {
		kind, text, err := c.Read(ctx)
		if err != nil {
			return append(seen, fmt.Sprint("closed with ", int(websocket.CloseStatus(err))))
		}
		if strings.Contains(string(text), `"INVALID_MESSAGE"`) {
			continue // an edge says so before it closes
		}
		return append(seen, kind.String(), fmt.Sprint("closed: ", c.Close(code, "mine")))
	}
}
