package load

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// wire is the client's side of a WebSocket, as far as it is needed here: texts in
// one frame each, pings answered, no fragments.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	long []byte // of a text that does not fit into in

	mu  sync.Mutex
	out []byte // guarded by mu
}

func newWire(conn net.Conn) *wire { return &wire{conn: conn, in: bufio.NewReaderSize(conn, 2048)} }

// upgrade is the opening handshake.
func (w *wire) upgrade(to *url.URL) error {
	if _, err := fmt.Fprintf(w.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n", to.RequestURI(), to.Host); err != nil {
		return err
	}
	answer, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the upgrade is answered with %s", answer.Status)
	}
	return nil
}

// The opcodes of RFC 6455, section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

const final, masked = 0x80, 0x80

var errFragment = errors.New("the message is fragmented, which this client does not read")

// next returns the next text, which is valid until the next call.
func (w *wire) next() ([]byte, error) {
	for {
		head, err := w.in.Peek(2)
		if err != nil {
			return nil, err
		}
		if head[0]&final == 0 {
			return nil, errFragment
		}
		op := head[0] & 0xf
		payload, err := w.payload(int(head[1]))
		if err != nil {
			return nil, err
		}
		switch op {
		case opText:
			return payload, nil
		case opPing:
			_ = w.frame(opPong, payload) // reading goes on, and says why it cannot
		case opClose:
			if len(payload) >= 2 {
				return nil, fmt.Errorf("closed with %d %q", binary.BigEndian.Uint16(payload), payload[2:])
			}
			return nil, io.EOF
		}
	}
}

// payload reads a frame whose second byte says how long it is.
func (w *wire) payload(length int) ([]byte, error) {
	head := 2
	switch length {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	bytes, err := w.in.Peek(head)
	if err != nil {
		return nil, err
	}
	switch length {
	case 126:
		length = int(binary.BigEndian.Uint16(bytes[2:]))
	case 127:
		length = int(binary.BigEndian.Uint64(bytes[2:]))
	}
	if _, err := w.in.Discard(head); err != nil {
		return nil, err
	}
	if length <= w.in.Size() {
		text, err := w.in.Peek(length)
		if err != nil {
			return nil, err
		}
		_, err = w.in.Discard(length) // the bytes stay until the next read
		return text, err
	}
	if cap(w.long) < length {
		w.long = make([]byte, length)
	}
	_, err = io.ReadFull(w.in, w.long[:length])
	return w.long[:length], err
}

func (w *wire) write(text []byte) error { return w.frame(opText, text) }

// frame sends a frame as a client has to: masked.
func (w *wire) frame(op byte, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = append(w.out[:0], final|op)
	switch n := len(payload); {
	case n < 126:
		w.out = append(w.out, masked|byte(n))
	case n < 1<<16:
		w.out = binary.BigEndian.AppendUint16(append(w.out, masked|126), uint16(n))
	default:
		w.out = binary.BigEndian.AppendUint64(append(w.out, masked|127), uint64(n))
	}
	w.out = binary.LittleEndian.AppendUint32(w.out, rand.Uint32())
	mask := w.out[len(w.out)-4:]
	for i, c := range payload {
		w.out = append(w.out, c^mask[i%4])
	}
	_, err := w.conn.Write(w.out)
	if cap(w.out) > 4096 {
		w.out = nil
	}
	return err
}
