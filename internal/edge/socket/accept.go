package socket

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
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
	h := &taking{timeout: cfg.WriteTimeout}
	defer func() {
		if value := recover(); value != nil {
			cfg.Panicked(value)
			h.abandon()
			err = ErrPanicked
		}
	}()
	accepting, status, problem := judge(r)
	if problem != "" {
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", versionHeader: strconv.Itoa(version)} {
			w.Header().Set(name, value)
		}
		http.Error(w, problem, status)
		return nil, fmt.Errorf("upgrade to WebSocket: %s", problem)
	}
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Sec-WebSocket-Accept", accepting)
	if name := offered(r.Header); name != "" {
		w.Header().Set("Sec-WebSocket-Protocol", name)
	}
	s := newSocket(cfg)
	if s.raw, err = h.take(w); err != nil {
		return nil, fmt.Errorf("upgrade to WebSocket: %w", err)
	}
	s.raw.in.rate = cfg.readRate()
	return s, nil
}

// version is that of the protocol. The frames of the older one are the same.
const (
	versionHeader         = "Sec-WebSocket-Version"
	version, olderVersion = 13, 8
)

// judge reads the request of RFC 6455, section 4.2.1: it returns what the answer is
// to say, or what is wrong. As with Node's servers it may be of HTTP/1.0, as nginx
// writes it unless it is told otherwise, and of version 8. Daemons are not browsers,
// and authenticate by a token in a message, not by a cookie: a foreign origin gains
// nothing, and is not looked at.
func judge(r *http.Request) (accepting string, status int, problem string) {
	keys := r.Header.Values("Sec-WebSocket-Key")
	spoken, err := strconv.Atoi(r.Header.Get(versionHeader))
	switch {
	case r.Method != http.MethodGet:
		return "", http.StatusMethodNotAllowed, "an upgrade to WebSocket is a GET"
	case r.ProtoMajor != 1:
		return "", http.StatusUpgradeRequired, "an upgrade to WebSocket takes HTTP/1.1"
	case !names(r.Header, "Connection", "upgrade") || !names(r.Header, "Upgrade", "websocket"):
		return "", http.StatusUpgradeRequired, "expected an upgrade to WebSocket"
	case err != nil || spoken != version && spoken != olderVersion:
		return "", http.StatusBadRequest, "expected version 13 of WebSocket"
	case len(keys) != 1:
		return "", http.StatusBadRequest, "expected one Sec-WebSocket-Key"
	}
	key := strings.TrimSpace(keys[0])
	if random, err := base64.StdEncoding.DecodeString(key); err != nil || len(random) != 16 {
		return "", http.StatusBadRequest, "expected a Sec-WebSocket-Key of 16 bytes"
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:]), 0, ""
}

// names reports whether a header's list has a token, in any case.
func names(h http.Header, header, token string) bool {
	for _, list := range h.Values(header) {
		for name := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(name), token) {
				return true
			}
		}
	}
	return false
}

// offered is the first subprotocol that the client offers, if any. There is none
// that means anything here, but a client that offers some insists on one, and what
// Node's servers answer is the first.
func offered(h http.Header) string {
	for _, list := range h.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				return name
			}
		}
	}
	return ""
}

// taking takes a connection over from net/http.
type taking struct {
	timeout time.Duration
	taken   net.Conn // from net/http
}

// abandon closes the connection, if it was taken over.
func (t *taking) abandon() {
	if t.taken != nil {
		_ = t.taken.Close()
	}
}

// take takes the connection over and answers the upgrade: net/http would say in the
// answer that it closes the connection, where the request was of HTTP/1.0. What has
// been read ahead is kept: it becomes the first bytes that the connection returns.
func (t *taking) take(w http.ResponseWriter) (*corkedConn, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	t.taken = conn
	ahead, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := newCorkedConn(conn, bytes.Clone(ahead), t.timeout)
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = w.Header().Write(&head) // a buffer takes all
	head.WriteString("\r\n")
	if err := c.writeAll(head.Bytes()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}
