package handshake

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
)

// answer is the http.ResponseWriter of a request. What is written of it fits into
// what the kernel takes at once.
type answer struct {
	conn   *access.Conn
	rest   string // what came behind the request
	header http.Header
	status int
	body   []byte
	taken  bool // by Hijack
}

// OnCrew reports whether a handler runs in a goroutine of the crew, whose stack has
// grown before.
func OnCrew(w http.ResponseWriter) bool {
	_, served := w.(*answer)
	return served
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}

// Hijack implements http.Hijacker. What was answered has been written then.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if a.taken {
		return nil, nil, http.ErrHijacked
	}
	if a.status != 0 && a.status != http.StatusSwitchingProtocols {
		return nil, nil, errors.New("the request has been answered")
	}
	a.taken = true
	if a.status != 0 {
		if err := a.write(); err != nil {
			return nil, nil, errors.Join(err, a.conn.Close())
		}
	}
	in := bufio.NewReaderSize(strings.NewReader(a.rest), len(a.rest))
	_, _ = in.Peek(len(a.rest)) // so that it is buffered, as with net/http
	return a.conn, bufio.NewReadWriter(in, bufio.NewWriterSize(a.conn, 16)), nil
}

// flush writes an answer after which the connection goes on.
func (a *answer) flush() error {
	a.WriteHeader(http.StatusOK)
	a.header.Set("Content-Length", fmt.Sprint(len(a.body)))
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	return a.write()
}

func (a *answer) write() error {
	var text strings.Builder
	fmt.Fprintf(&text, "HTTP/1.1 %03d %s\r\n", a.status, http.StatusText(a.status))
	if err := a.header.Write(&text); err != nil {
		return err
	}
	text.WriteString("\r\n")
	text.Write(a.body)
	_, err := a.conn.Write([]byte(text.String()))
	return err
}
