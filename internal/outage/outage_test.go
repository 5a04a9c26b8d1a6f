package outage_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/outage"
)

func TestAnOutageIsSaidAtEachChangeAndNotAtEachTry(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := outage.New("it cannot be reached", slog.New(slog.NewTextHandler(&log, nil)))
	lines := func() int { return strings.Count(log.String(), "it cannot be reached") }
	require.Empty(t, o.Detail(), "there is none")
	for range 3 {
		o.Failed("a:1", "refused", time.Hour)
		o.Failed("b:2", "unknown name b", time.Hour)
	}
	require.Equal(t, 2, lines(), "once for each address")
	for _, part := range []string{"level=WARN", "address=a:1", "error=refused", "retry_in=1h", "since="} {
		require.Contains(t, log.String(), part)
	}
	o.Failed("a:1", "no answer in time", time.Hour)
	require.Equal(t, 3, lines(), "what happens has changed")
	require.Regexp(t, `^not reached since \d{4}-.*Z: a:1: no answer in time; b:2: unknown name b; next try in 1h0m0s$`, o.Detail())
	o.Failed("a:1", "no answer in time", 0)
	require.Equal(t, "being tried again now", o.Next())

	o.Over()
	require.Empty(t, o.Detail())
	o.Failed("a:1", "no answer in time", time.Hour)
	require.Equal(t, 4, lines(), "another outage")
}

func TestAnOutageWithEverNewAddressesIsBounded(t *testing.T) {
	t.Parallel()
	o := outage.New("away", slog.New(slog.DiscardHandler))
	for n := range 1000 {
		o.Failed(fmt.Sprintf("10.0.0.%d:1", n), "refused", time.Second)
	}
	require.Less(t, len(o.Detail()), 2000)
	require.Contains(t, o.Detail(), "10.0.0.999:1")
	require.NotContains(t, o.Detail(), "10.0.0.1:1:")
}

func TestReasons(t *testing.T) {
	t.Parallel()
	dial := func(err error) error {
		return fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Net: "tcp", Source: &net.TCPAddr{Port: 54321}, Err: err})
	}
	for want, err := range map[string]error{
		"connection refused: nothing listens there":                     dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)),
		"there is no way to it":                                         dial(os.NewSyscallError("connect", syscall.ENETUNREACH)),
		"no answer in time":                                             dial(os.ErrDeadlineExceeded),
		"it closed the connection":                                      fmt.Errorf("read: %w", io.EOF),
		"unknown name nats.example":                                     dial(&net.DNSError{Name: "nats.example", Err: "no such host", IsNotFound: true}),
		"the name nats.example cannot be looked up: server misbehaving": dial(&net.DNSError{Name: "nats.example", Err: "server misbehaving"}),
		"odd":                                dial(errors.New("odd")),
		"two lines of it":                    errors.New("two lines\n\t of it\n"),
		"TLS: it does not speak TLS":         tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
		"TLS: it says: tls: bad certificate": fmt.Errorf("remote error: %w", tls.AlertError(42)),
	} {
		require.Equal(t, want, outage.Reason(err))
	}
	require.Equal(t, "connection refused: nothing listens there", outage.Reason(errors.New("Failed to join 127.0.0.1:1: dial tcp: connect: connection refused")))
	require.Equal(t, "no answer in time", outage.Reason(context.DeadlineExceeded))
}

// What the system and TLS really say.
func TestReasonsOfRealConnections(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, err = net.Dial("tcp", address)
	require.Equal(t, "connection refused: nothing listens there", outage.Reason(err))

	own := testserver.NewCertificate(t, 1)
	pair, err := tls.X509KeyPair(own.Certificate, own.Key)
	require.NoError(t, err)
	secured, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	require.NoError(t, err)
	defer func() { _ = secured.Close() }()
	go func() {
		for {
			conn, err := secured.Accept()
			if err != nil {
				return
			}
			go func() { _ = conn.(*tls.Conn).Handshake(); _ = conn.Close() }()
		}
	}()
	_, err = tls.Dial("tcp", secured.Addr().String(), &tls.Config{ServerName: "localhost"})
	require.Contains(t, outage.Reason(err), "TLS: its certificate is not accepted: x509: ")
}
