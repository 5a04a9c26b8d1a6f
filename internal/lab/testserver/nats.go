package testserver

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATSServer is a NATS server with JetStream inside the test process. It keeps
// its port and its data over Restart. Methods may be called at the same time.
type NATSServer struct {
	t    testing.TB
	opts server.Options

	mu     sync.Mutex
	server *server.Server // nil while it is shut down
}

// NATS starts a server; change may alter its options first.
func NATS(t testing.TB, change ...func(*server.Options)) *NATSServer {
	t.Helper()
	s := &NATSServer{t: t, opts: server.Options{
		Host:      loopback,
		Port:      server.RANDOM_PORT,
		JetStream: true,
		StoreDir:  t.TempDir(),
		// The streams reserve what they may grow to, far more than a test needs.
		JetStreamMaxStore: 1 << 42,
		AuthTimeout:       Patience.Seconds(), // for the CONNECT of a client that is slow
		NoSigs:            true,
		NoLog:             true,
	}}
	for _, f := range change {
		f(&s.opts)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	return s
}

// Start starts the server after a Shutdown, on the same port and data.
func (s *NATSServer) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return
	}
	opts := s.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatalf("create a NATS server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(Patience) {
		s.t.Fatalf("the NATS server on port %d is not ready after %v", s.opts.Port, Patience)
	}
	s.opts.Port = opts.Port
	s.server = srv
}

// Shutdown stops the server and waits until it has ended. Its data stays.
func (s *NATSServer) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
	s.server = nil
}

// Restart is Shutdown and Start.
func (s *NATSServer) Restart() {
	s.t.Helper()
	s.Shutdown()
	s.Start()
}

// Server returns the running server, nil after Shutdown.
func (s *NATSServer) Server() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// ClientURL is where clients connect; it stays the same over Restart.
func (s *NATSServer) ClientURL() string { return "nats://" + s.Addr() }

// Addr is the host and port of ClientURL.
func (s *NATSServer) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return address(s.opts.Port)
}

// Data is the directory with all that the server keeps.
func (s *NATSServer) Data() string { return s.opts.StoreDir }

// JetStream connects to the server, for as long as the test runs.
func (s *NATSServer) JetStream() jetstream.JetStream {
	s.t.Helper()
	return JetStream(s.t, s.ClientURL())
}

// Connect returns a client of the NATS servers at a URL that reconnects for ever
// and ends with the test.
func Connect(t testing.TB, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.Timeout(Patience), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ReconnectBufSize(-1),
	}, options...)...)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Listen subscribes, and returns when the server knows it: what any connection
// publishes from then on is heard.
func Listen(t testing.TB, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	return inPlace(t, nc, sub, err)
}

// Answer is Listen for what is answered, or heard otherwise, by a function.
func Answer(t testing.TB, nc *nats.Conn, subject string, answer nats.MsgHandler) *nats.Subscription {
	t.Helper()
	sub, err := nc.Subscribe(subject, answer)
	return inPlace(t, nc, sub, err)
}

// inPlace waits until the server has a subscription that was just made.
func inPlace(t testing.TB, nc *nats.Conn, sub *nats.Subscription, err error) *nats.Subscription {
	t.Helper()
	if err == nil {
		err = nc.FlushTimeout(Patience)
	}
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	return sub
}

// requestTimeout is how long JetStream may take to answer, where a context has no
// deadline. A request that is lost with its server has to leave some of Patience.
const requestTimeout = time.Minute

// JetStream is Connect for JetStream.
func JetStream(t testing.TB, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(Connect(t, url, options...), jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		t.Fatalf("JetStream on %s: %v", url, err)
	}
	return js
}
