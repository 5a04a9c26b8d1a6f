package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Sizes of the buffers that stay with an idle connection. Where nothing is read
// ahead (see inbound), the library does so. A control frame (at most 131 bytes)
// must fit, so that the library writes it in one piece.
const (
	readBuffer  = 1024
	writeBuffer = 144
)

// sendBuffer is what the kernel may hold for a peer of a Listener (Linux takes twice
// as much, for its own bookkeeping). Left alone it takes 4 MiB: memory of the machine,
// if not of the edge. The whole window of a peer that reads nothing would fit
// into that, so no write would ever block, and nobody would notice.
const sendBuffer = 128 << 10

// Config sets the limits of a socket.
type Config struct {
	// MaxMessageBytes is the largest message accepted.
	MaxMessageBytes int
	// WriteTimeout is how long a peer may take nothing before it is cut off.
	WriteTimeout time.Duration
	// CloseTimeout bounds the close: writing what is queued and waiting for
	// the peer's close frame.
	CloseTimeout time.Duration
	// MaxReplies and MaxReplyBytes are how many replies, and how much of them, may
	// wait before reading pauses.
	MaxReplies, MaxReplyBytes int
	// Go runs a function beside its caller, if possible in a goroutine whose stack
	// has grown before.
	Go func(func())
	// Panicked is told of a panic in what is done for the peer, by the function that
	// has recovered from it. The connection is cut off.
	Panicked func(value any)
}

// ErrPanicked is what Accept returns where it has panicked. Nothing was written, or
// something that nobody can go on with.
var ErrPanicked = errors.New("panicked")

// Accept upgrades the request. On an error the response has been written. Else
// the caller calls Serve and returns from the HTTP handler, so that net/http frees
// what it holds for the request.
func Accept(w http.ResponseWriter, r *http.Request, cfg Config) (_ *Socket, err error) {
	h := &hijacker{ResponseWriter: w, timeout: cfg.WriteTimeout}
	defer func() {
		if value := recover(); value != nil {
			cfg.Panicked(value)
			h.abandon()
			err = ErrPanicked
		}
	}()
	s := newSocket(cfg)
	takeOlder(r)
	conn, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		// Daemons are not browsers, and authenticate by a token in a message,
		// not by a cookie: a foreign origin gains nothing.
		InsecureSkipVerify: true,
		CompressionMode:    websocket.CompressionDisabled,
		Subprotocols:       offered(r.Header),
		OnPingReceived: func(context.Context, []byte) bool {
			s.pacePing()
			return true
		},
		OnPongReceived: func(_ context.Context, payload []byte) { s.answered(payload) },
	})
	if err != nil {
		return nil, fmt.Errorf("upgrade to WebSocket: %w", err)
	}
	// The library closes at its own limit before anything can be said, so its
	// limit stands above ours.
	conn.SetReadLimit(int64(cfg.MaxMessageBytes) + 1)
	s.conn, s.raw = conn, h.conn
	s.raw.in.rate = cfg.readRate()
	return s, nil
}

// takeOlder has requests pass that Node's servers take, and the library does not: of
// HTTP/1.0, as nginx writes them unless it is told otherwise, and of version 8 of the
// protocol, whose frames are those of version 13.
func takeOlder(r *http.Request) {
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		r.Proto, r.ProtoMinor = "HTTP/1.1", 1
	}
	if version, err := strconv.Atoi(r.Header.Get(versionHeader)); err == nil && (version == 8 || version == 13) {
		r.Header.Set(versionHeader, "13")
	}
}

const versionHeader = "Sec-WebSocket-Version"

// offered is the first subprotocol that the client offers, if any. There is none
// that means anything here, but a client that offers some insists on one, and what
// Node's servers answer is the first.
func offered(h http.Header) []string {
	for _, list := range h.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				return []string{name}
			}
		}
	}
	return nil
}

// hijacker replaces net/http's buffers by small ones.
type hijacker struct {
	http.ResponseWriter
	timeout time.Duration
	taken   net.Conn // from net/http
	conn    *corkedConn
}

// WriteHeader leaves the answer to an upgrade to Hijack: net/http would say in it that
// it closes the connection, where the request was of HTTP/1.0.
func (h *hijacker) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols {
		h.ResponseWriter.WriteHeader(status)
	}
}

// greet answers the upgrade.
func (h *hijacker) greet() error {
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Header().Write(&head) // a buffer takes all
	head.WriteString("\r\n")
	_, err := h.conn.Write(head.Bytes())
	return err
}

// abandon closes the connection, if it was taken over.
func (h *hijacker) abandon() {
	if h.taken != nil {
		_ = h.taken.Close()
	}
}

// Hijack takes the connection over. What net/http has read ahead is kept: it
// becomes the first bytes that the connection returns.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.taken = conn
	ahead, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	h.conn = newCorkedConn(conn, bytes.Clone(ahead), h.timeout)
	if err := h.greet(); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	size := readBuffer
	if h.conn.in.raw != nil {
		size = libraryBuffer
	}
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, size), bufio.NewWriterSize(h.conn, writeBuffer)), nil
}
