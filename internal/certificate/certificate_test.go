package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// paths are files of a test.
type paths struct{ certificate, key string }

// write writes a certificate that is its own authority, and its key.
func write(t *testing.T, serial int64) (paths, testserver.Certificate) {
	t.Helper()
	c := testserver.NewCertificate(t, serial)
	var p paths
	p.certificate, p.key = c.Files(t)
	return p, c
}

func pairOf(t *testing.T, c testserver.Certificate) []tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	require.NoError(t, err)
	return []tls.Certificate{pair}
}

// serve answers each connection with a byte.
func serve(t *testing.T, cfg Config) (address string) {
	t.Helper()
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := s.Listener(plain)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte{1})
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-served
	})
	return plain.Addr().String()
}

// connect shows certificates, and returns what came of it.
func connect(address string, trusted *x509.CertPool, shown []tls.Certificate) error {
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: trusted, Certificates: shown})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestOnlyClientsWithACertificateOfTheirAuthorityGetIn(t *testing.T) {
	t.Parallel()
	server, shown := write(t, 1)
	clients, known := write(t, 2)
	stranger, renewed := testserver.NewCertificate(t, 3), testserver.NewCertificate(t, 4)
	address := serve(t, Config{TLSCertFile: server.certificate, TLSKeyFile: server.key, TLSClientCAFile: clients.certificate})
	require.NoError(t, connect(address, shown.Pool, pairOf(t, known)))
	require.ErrorContains(t, connect(address, shown.Pool, nil), "certificate required")
	require.Error(t, connect(address, shown.Pool, pairOf(t, stranger)))

	require.NoError(t, os.WriteFile(clients.certificate, []byte("half written"), 0o600))
	require.NoError(t, connect(address, shown.Pool, pairOf(t, known)))
	require.NoError(t, os.WriteFile(clients.certificate, renewed.Certificate, 0o600))
	require.Eventually(t, func() bool { return connect(address, shown.Pool, pairOf(t, renewed)) == nil }, testserver.Patience, 50*time.Millisecond)
	require.Error(t, connect(address, shown.Pool, pairOf(t, known)), "its authority was taken out")
}

// A session that is resumed shows no certificate again, so that whose authority was
// taken out would stay in. Checked by giving out tickets.
func TestNoSessionIsResumedWhereClientsShowACertificate(t *testing.T) {
	t.Parallel()
	server, shown := write(t, 1)
	clients, known := write(t, 2)
	renewed := testserver.NewCertificate(t, 3)
	address := serve(t, Config{TLSCertFile: server.certificate, TLSKeyFile: server.key, TLSClientCAFile: clients.certificate})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		require.NoError(t, os.WriteFile(clients.certificate, known.Certificate, 0o600))
		config := &tls.Config{
			RootCAs: shown.Pool, Certificates: pairOf(t, known), MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		again := func() error {
			conn, err := tls.Dial("tcp", address, config)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			_, err = io.ReadFull(conn, make([]byte, 1)) // tickets come before
			if err == nil && conn.ConnectionState().DidResume {
				err = errors.New("resumed")
			}
			return err
		}
		require.Eventually(t, func() bool { return again() == nil }, testserver.Patience, 50*time.Millisecond)
		require.NoError(t, again())
		require.NoError(t, os.WriteFile(clients.certificate, renewed.Certificate, 0o600))
		require.Eventually(t, func() bool { return connect(address, shown.Pool, pairOf(t, renewed)) == nil }, testserver.Patience, 50*time.Millisecond)
		require.Error(t, again())
	}
}

func TestWithoutAnAuthorityClientsNeedNone(t *testing.T) {
	t.Parallel()
	server, shown := write(t, 1)
	address := serve(t, Config{TLSCertFile: server.certificate, TLSKeyFile: server.key})
	require.NoError(t, connect(address, shown.Pool, nil))
}

func TestFilesThatCannotBeUsedAreReported(t *testing.T) {
	t.Parallel()
	good, _ := write(t, 1)
	for name, test := range map[string]struct {
		cfg     Config
		setting string
		problem string
	}{
		"no key":         {Config{TLSCertFile: good.certificate}, "X_TLS_CERT_FILE", "together with X_TLS_KEY_FILE"},
		"mixed up":       {Config{TLSCertFile: good.key, TLSKeyFile: good.certificate}, "X_TLS_CERT_FILE", "a certificate and its key"},
		"no TLS":         {Config{TLSClientCAFile: good.certificate}, "X_TLS_CLIENT_CA_FILE", "there is no TLS"},
		"no certificate": {Config{TLSCertFile: good.certificate, TLSKeyFile: good.key, TLSClientCAFile: good.key}, "X_TLS_CLIENT_CA_FILE", "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems := map[string]string{}
			test.cfg.Check("X_", func(setting, problem string) { problems[setting] = problem })
			require.Contains(t, problems[test.setting], test.problem)
		})
	}
	Config{}.Check("X_", func(setting, problem string) { t.Error(setting, problem) })
}

// moltis-org/moltis#245, denoland/deno#36704: a client that offers HTTP/2 as well was
// given it, on which no connection becomes a WebSocket.
func TestWhoOffersHTTP2IsGivenHTTP11(t *testing.T) {
	t.Parallel()
	files, c := write(t, 1)
	trusted := x509.NewCertPool()
	require.True(t, trusted.AppendCertsFromPEM(c.Certificate))
	address := serve(t, Config{TLSCertFile: files.certificate, TLSKeyFile: files.key})
	for _, offered := range [][]string{{"h2", "http/1.1"}, {"http/1.1"}} {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: trusted, NextProtos: offered})
		require.NoError(t, err)
		require.Equal(t, "http/1.1", conn.ConnectionState().NegotiatedProtocol)
		require.NoError(t, conn.Close())
	}
}
