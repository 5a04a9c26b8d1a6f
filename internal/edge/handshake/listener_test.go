package handshake

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server counts what reaches net/http, by its own states of connections.
type server struct {
	addr string
	seen atomic.Int64
}

func serve(t *testing.T, handler http.HandlerFunc, change ...func(*http.Server)) *server {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	control, err := access.New(settings.Default[access.Config](), "", 1000, func(access.Refusal, netip.Addr) {}, logger, prometheus.NewRegistry())
	require.NoError(t, err)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{addr: tcp.Addr().String()}
	srv := access.NewServer(handler, testserver.Patience, testserver.Patience, nil, logger, slog.LevelDebug)
	srv.ReadHeaderTimeout = testserver.Patience
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.seen.Add(1)
		}
	}
	for _, f := range change {
		f(srv)
	}
	crew := &lifecycle.Crew{}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(New(control.Listener(tcp), srv, crew, "/daemon/ws")) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
		crew.Dismiss()
	})
	return s
}

func (s *server) dial(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testserver.Patience)))
	return conn, bufio.NewReader(conn)
}

// echo takes the connection over and sends back what comes.
func echo(w http.ResponseWriter, r *http.Request) {
	if access.Of(r.Context()) == nil {
		http.Error(w, "not known where it comes from", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	go func() {
		defer func() { _ = conn.Close() }()
		_, _ = io.Copy(conn, rw.Reader)
		_, _ = io.Copy(conn, conn)
	}()
}

func answer101(t *testing.T, in *bufio.Reader) {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	require.Equal(t, "websocket", res.Header.Get("Upgrade"))
}

func TestAConnectionIsTakenOverWithWhatFollowsTheRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		write  func(io.Writer) error
		server int64
	}{
		"at once": {func(w io.Writer) error { _, err := io.WriteString(w, usual+"first "); return err }, 0},
		"in an unusual form": {func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Replace(usual, "Connection: Upgrade", "Connection: keep-alive, Upgrade", 1)+"first ")
			return err
		}, 1},
		"to where answers may be long": {func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Replace(usual, "/daemon/ws", "/api/daemon/events", 1)+"first ")
			return err
		}, 1},
		"in two parts": {func(w io.Writer) error {
			for _, part := range []string{usual[:100], usual[100:] + "first "} {
				if _, err := io.WriteString(w, part); err != nil {
					return err
				}
			}
			return nil
		}, -1}, // which may come together
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, echo)
			conn, in := s.dial(t)
			require.NoError(t, test.write(conn))
			answer101(t, in)
			_, err := io.WriteString(conn, "second")
			require.NoError(t, err)
			text := make([]byte, len("first second"))
			_, err = io.ReadFull(in, text)
			require.NoError(t, err)
			require.Equal(t, "first second", string(text))
			if test.server >= 0 {
				require.Equal(t, test.server, s.seen.Load(), "connections that the server has got")
			}
		})
	}
}

func TestARefusedConnectionGoesOnWithTheServer(t *testing.T) {
	t.Parallel()
	requests := atomic.Int64{}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprint(w, "request ", requests.Add(1))
	})
	conn, in := s.dial(t)
	for n := range 3 {
		_, err := io.WriteString(conn, usual)
		require.NoError(t, err)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Equal(t, "2", res.Header.Get("Retry-After"))
		require.NotEmpty(t, res.Header.Get("Date"))
		require.Equal(t, fmt.Sprint("request ", n+1), string(body))
	}
	require.EqualValues(t, 1, s.seen.Load(), "connections that the server has got")
}

func TestAPanicOverARequestEndsItsConnectionAlone(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			panic(http.ErrAbortHandler)
		}
		echo(w, r)
	})
	conn, in := s.dial(t)
	_, err := io.WriteString(conn, strings.Replace(usual, "/daemon/ws", "/daemon/ws?panic=1", 1))
	require.NoError(t, err)
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	conn, in = s.dial(t)
	_, err = io.WriteString(conn, usual)
	require.NoError(t, err)
	answer101(t, in)
}

// Who connects has the time that the server gives to headers for all of them,
// however many of them come first.
func TestWhoIsSlowToSayAnythingIsClosed(t *testing.T) {
	t.Parallel()
	s := serve(t, echo, func(srv *http.Server) { srv.ReadHeaderTimeout = 50 * time.Millisecond })
	for _, beginning := range []string{"", usual[:20]} {
		conn, in := s.dial(t)
		_, err := io.WriteString(conn, beginning)
		require.NoError(t, err)
		_, err = io.ReadAll(in) // the server may say something
		require.NoError(t, err, beginning)
	}
}

func TestTheDeadlineOfWhatComesFirstIsNoLaterForHavingBeenReadBefore(t *testing.T) {
	t.Parallel()
	by := time.Now().Add(time.Hour)
	later := by.Add(time.Hour)
	c := &ahead{before: "x", by: by}
	require.Equal(t, by, c.deadline(later))
	require.Equal(t, later, c.deadline(later), "of what comes then")
}

// The end of the server is the end of those that have said nothing.
func TestClosingEndsThoseThatAreWaitedFor(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	control, err := access.New(settings.Default[access.Config](), "", 1000, func(access.Refusal, netip.Addr) {}, logger, prometheus.NewRegistry())
	require.NoError(t, err)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := access.NewServer(http.NotFoundHandler(), testserver.Patience, testserver.Patience, nil, logger, slog.LevelDebug)
	l := New(control.Listener(tcp), srv, nil)
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", tcp.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.Eventually(t, func() bool { return control.Waiting() == 1 }, testserver.Patience, time.Millisecond)
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.Zero(t, control.Waiting())
}

// A server may be told to end before it has begun to accept.
func TestClosingWhileAcceptingBegins(t *testing.T) {
	t.Parallel()
	for range 100 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		l := New(tcp, &http.Server{}, nil)
		ended := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
	}
}
