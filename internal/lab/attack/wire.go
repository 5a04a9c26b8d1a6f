package attack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// opcode is a WebSocket frame's kind.
type opcode byte

const (
	opContinuation opcode = 0
	opText         opcode = 1
	opClose        opcode = 8
	opPing         opcode = 9
	opPong         opcode = 10
)

// abnormal is the close code of a connection that ended without one.
const abnormal = 1006

// receiveBuffer is asked for where a client is to take little: the kernel would
// take megabytes in its name.
const receiveBuffer = 4 << 10

// wire is a WebSocket connection without a library, since no library sends what
// breaks the protocol, or leaves unread what has arrived.
type wire struct {
	net.Conn
	in *bufio.Reader
}

// open connects and upgrades. greedy connections take what the kernel gives
// them; the others have a small receive buffer.
func (t *Target) open(ctx context.Context, greedy bool) (*wire, error) {
	conn, path, err := t.dialEdge(ctx, greedy)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, in: bufio.NewReaderSize(conn, 512)}
	if err := w.upgrade(path); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return w, nil
}

// dialEdge connects to where daemons do and says nothing.
func (t *Target) dialEdge(ctx context.Context, greedy bool) (net.Conn, string, error) {
	address, err := url.Parse(t.URL)
	if err != nil {
		return nil, "", err
	}
	conn, err := t.dial(ctx, address.Host, greedy)
	return conn, address.Path, err
}

// dial connects and says nothing.
func (t *Target) dial(ctx context.Context, address string, greedy bool) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience}
	if t.From != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: t.From}
	}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && !greedy {
		err = tcp.SetReadBuffer(receiveBuffer)
	}
	return conn, err
}

// patience bounds what a client that waits for the gateway waits for.
const patience = 30 * time.Second

func (w *wire) upgrade(path string) error {
	if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := io.WriteString(w, upgradeRequest(path))
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return refused(resp.StatusCode)
	}
	return w.SetDeadline(time.Time{})
}

func upgradeRequest(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
}

// refused is the HTTP status of an upgrade that was refused.
type refused int

func (r refused) Error() string { return fmt.Sprintf("upgrade refused with status %d", int(r)) }

// frame is a client's frame, masked with zeros.
func frame(op opcode, final bool, payload []byte) []byte {
	first := byte(op)
	if final {
		first |= 0x80
	}
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, 0x80|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(n))
	}
	out = append(out, 0, 0, 0, 0)
	return append(out, payload...)
}

// say sends a message of the protocol.
func (w *wire) say(kind protocol.MessageType, payload string) error {
	_, err := w.Write(frame(opText, true, message(kind, payload)))
	return err
}

func message(kind protocol.MessageType, payload string) []byte {
	return fmt.Appendf(nil, `{"type":%q,"id":"1","timestamp":"2026-11-22T10:00:00Z","payload":%s}`, kind, payload)
}

// hear returns the next text message, and answers pings before it. A close frame
// is an ended error.
func (w *wire) hear() ([]byte, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(w.in, head[:]); err != nil {
			return nil, ended(abnormal)
		}
		size, err := w.size(head[1])
		if err != nil {
			return nil, ended(abnormal)
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(w.in, payload); err != nil {
			return nil, ended(abnormal)
		}
		switch opcode(head[0] & 0xf) {
		case opText:
			return payload, nil
		case opPing:
			if _, err := w.Write(frame(opPong, true, payload)); err != nil {
				return nil, ended(abnormal)
			}
		case opClose:
			if len(payload) < 2 {
				return nil, ended(abnormal)
			}
			return nil, ended(binary.BigEndian.Uint16(payload))
		}
	}
}

func (w *wire) size(second byte) (uint64, error) {
	var wide [8]byte
	switch n := second & 0x7f; n {
	case 126:
		_, err := io.ReadFull(w.in, wide[6:])
		return binary.BigEndian.Uint64(wide[:]), err
	case 127:
		_, err := io.ReadFull(w.in, wide[:])
		return binary.BigEndian.Uint64(wide[:]), err
	default:
		return uint64(n), nil
	}
}

// ended is the code that a connection was closed with.
type ended int

func (e ended) Error() string { return fmt.Sprintf("closed with code %d", int(e)) }

// codeOf returns the close code that an error stands for.
func codeOf(err error) int {
	var e ended
	if errors.As(err, &e) {
		return int(e)
	}
	return abnormal
}
