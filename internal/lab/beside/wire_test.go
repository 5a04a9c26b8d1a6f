package beside_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// The opcodes of frames.
const (
	continuation = 0
	text         = 1
	binaryData   = 2
	closing      = 8
	ping         = 9
	pong         = 10
	fin          = 0x80
)

// frame is one as clients write it, with a mask of zeros: first is its first byte.
func frame(first byte, payload string) string {
	head := []byte{first}
	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	return string(append(head, 0, 0, 0, 0)) + payload
}

// longFrame writes the length in more bytes than it needs: 2 or 8.
func longFrame(first byte, width int, length uint64, payload string) string {
	head := []byte{first, 0x80 | 126}
	if width == 2 {
		head = binary.BigEndian.AppendUint16(head, uint16(length))
	} else {
		head[1] = 0x80 | 127
		head = binary.BigEndian.AppendUint64(head, length)
	}
	return string(append(head, 0, 0, 0, 0)) + payload
}

func closeFrame(code uint16, reason string) string {
	return frame(fin|closing, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

func whole(payload string) string { return frame(fin|text, payload) }

// over is the last message of what is asked: its answer says that nothing comes any
// more of what was asked before it.
const over = `{"type":"heartbeat","id":"over","timestamp":"2026-11-22T10:00:00.000Z","payload":{}}`

// request is the usual one with changes: a header line replaces the one of its name or
// is added, one without a value is taken away, one after a + is added to that of its
// name, and what is no header is the first line.
func request(changes ...string) string {
	lines := []string{
		"GET /daemon/ws HTTP/1.1", "Host: gateway.example", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Version: 13",
	}
	for _, change := range changes {
		name, value, isHeader := strings.Cut(change, ":")
		i := 0
		if isHeader {
			for i = 1; i < len(lines) && !strings.HasPrefix(lines[i], name+":"); i++ {
			}
		}
		switch {
		case strings.HasPrefix(change, "+"):
			lines = append(lines, change[1:])
		case i == len(lines):
			lines = append(lines, change)
		case isHeader && value == "":
			lines = append(lines[:i], lines[i+1:]...)
		default:
			lines[i] = change
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// asked is what came of something: a text that two servers can be compared by.
func asked(t *testing.T, host string, a question) string {
	t.Helper()
	conn, err := net.Dial("tcp", host)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testserver.Patience)))
	in := bufio.NewReader(conn)
	say := a.request
	if say == "" {
		say = request()
	}
	for _, part := range a.parts(say + a.early) {
		_, _ = io.WriteString(conn, part) // it may be refused before its end
	}
	method, _, _ := strings.Cut(say, " ")
	answer, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return "no answer"
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		if a.again {
			return fmt.Sprint(answer.StatusCode, again(conn, in, answer))
		}
		return fmt.Sprint(answer.StatusCode)
	}
	greeting := fmt.Sprintf("%s %s, accept %s, protocol %q, extensions %q; ", answer.Header.Get("Upgrade"), answer.Header.Get("Connection"),
		answer.Header.Get("Sec-WebSocket-Accept"), answer.Header.Get("Sec-WebSocket-Protocol"), answer.Header.Get("Sec-WebSocket-Extensions"))
	_, _ = io.WriteString(conn, a.frames+whole(over))
	answers, rest := conversation(conn, in)
	if !a.racing {
		greeting += fmt.Sprint(answers, " answers, ")
	}
	return strings.ToLower(greeting) + rest
}

// again says whether the connection can be used for another request.
func again(conn net.Conn, in *bufio.Reader, answer *http.Response) string {
	_, _ = io.Copy(io.Discard, answer.Body)
	_, _ = io.WriteString(conn, "GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(in, nil); err != nil {
		return ""
	}
	return ", and the connection can be used again"
}

// conversation reads frames until the last message is answered, or the end. Answers
// and pongs may overtake one another, so they are told apart.
func conversation(conn net.Conn, in *bufio.Reader) (answers int, rest string) {
	pongs, ended := []string{}, ""
	invalid := false // the last answer was that something is invalid
	for ended == "" {
		first, payload, err := readFrame(in)
		if err != nil {
			ended = "cut"
			break
		}
		switch first {
		case fin | text:
			var m struct {
				Payload struct{ Code, InReplyTo string }
			}
			if json.Unmarshal(payload, &m) == nil && m.Payload.InReplyTo == "over" {
				ended = "open"
				break
			}
			answers++
			invalid = m.Payload.Code == "INVALID_MESSAGE"
		case fin | pong:
			pongs = append(pongs, fmt.Sprintf("%.20q", payload))
		case fin | closing:
			ended = "closed with nothing"
			if len(payload) >= 2 {
				code := binary.BigEndian.Uint16(payload)
				ended = fmt.Sprintf("closed with %d %q", code, reasonOf(payload[2:]))
				if invalid && slices.Contains([]uint16{1003, 1007, 1009}, code) {
					answers-- // an edge says so before it closes
				}
			}
			_, _ = io.WriteString(conn, closeFrame(1000, ""))
			_, _ = io.Copy(io.Discard, in)
		default:
			ended = fmt.Sprintf("frame %x", first)
		}
	}
	return answers, fmt.Sprintf("pongs %v, %s", pongs, ended)
}

// reasonOf leaves out a reason of the server's own.
func reasonOf(reason []byte) string {
	if bytes.HasPrefix(reason, []byte("mine")) {
		return string(reason)
	}
	return ""
}

func readFrame(in *bufio.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var length uint16
		err = binary.Read(in, binary.BigEndian, &length)
		n = uint64(length)
	case 127:
		err = binary.Read(in, binary.BigEndian, &n)
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(in, payload)
	return head[0], payload, err
}
