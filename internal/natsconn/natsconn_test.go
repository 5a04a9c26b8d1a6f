package natsconn_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const waitTime = testserver.Patience

func connect(t *testing.T, url string, onReconnect func(), change ...func(*natsconn.Config)) (*natsconn.Conn, *prometheus.Registry) {
	t.Helper()
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSURL = []settings.URL{settings.URL(url)}
	for _, f := range change {
		f(&cfg)
	}
	reg := prometheus.NewPedanticRegistry()
	c, err := natsconn.Connect(t.Context(), cfg, "test", slog.New(slog.DiscardHandler), reg, onReconnect)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, reg
}

func up(t *testing.T, reg *prometheus.Registry, want string) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_nats_up Whether the connection to NATS is up.
# TYPE gateway_nats_up gauge
gateway_nats_up `+want+"\n"), "gateway_nats_up"))
}

func ready(c *natsconn.Conn) func() bool {
	return func() bool { ok, _ := c.Check(); return ok }
}

func TestConnectBeforeNATSIsThere(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	url := s.ClientURL()
	s.Shutdown()
	c, reg := connect(t, url, nil)
	ok, detail := c.Check()
	require.False(t, ok)
	require.Contains(t, detail, "127.0.0.1:")
	require.Contains(t, detail, ": connection refused")
	up(t, reg, "0")
	s.Start()
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
	_, detail = c.Check()
	require.Equal(t, "connected to "+url, detail)
	up(t, reg, "1")
}

// Reports: nats-io/nats.go#1593.
func TestReconnects(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	again := make(chan struct{}, 10)
	c, _ := connect(t, s.ClientURL(), func() { again <- struct{}{} })
	s.Shutdown()
	require.Eventually(t, func() bool { return !ready(c)() }, waitTime, time.Millisecond)
	require.Eventually(t, func() bool { return errors.Is(c.NC.Publish("x", nil), nats.ErrReconnectBufExceeded) },
		waitTime, time.Millisecond, "nothing is kept for later")
	s.Start()
	<-again
	require.True(t, ready(c)())
	select {
	case <-c.Closed():
		t.Fatal("an outage is not the end of the connection")
	default:
	}
}

func TestClosedUnaskedIsReported(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	c, _ := connect(t, s.ClientURL(), nil)
	// What a control line over 4 KiB does to a connection, the server may also
	// do in other cases; the client library then ends up closed.
	c.NC.Close()
	<-c.Closed()
	require.ErrorIs(t, c.Run(t.Context()), natsconn.ErrClosed)
	ok, detail := c.Check()
	require.False(t, ok)
	require.Equal(t, "closed", detail)
}

func TestCloseIsNotReported(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	c, _ := connect(t, s.ClientURL(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	c.Close()
	cancel()
	require.NoError(t, <-ended)
	c.Close()
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mutate func(*natsconn.Config)
		want   []string
	}{
		"defaults":    {mutate: func(*natsconn.Config) {}},
		"no URL":      {mutate: func(c *natsconn.Config) { c.NATSURL = nil }, want: []string{"NATS_URL"}},
		"half a pair": {mutate: func(c *natsconn.Config) { c.NATSTLSKey = "key.pem" }, want: []string{"NATS_TLS_CERT"}},
		"URLs": {mutate: func(c *natsconn.Config) {
			c.NATSURL = []settings.URL{"nats://a", "tls://user:password@b:4222", "ws://c", "wss://[::1]:443"}
		}},
		"URLs in one": {mutate: func(c *natsconn.Config) { c.NATSURL = []settings.URL{"nats://u:p@a:4222, nats://u:p@b:4222"} }},
		"one of them is none": {mutate: func(c *natsconn.Config) {
			c.NATSURL = []settings.URL{"nats://u:p@a:4222,nats://u:p@b:port"}
		}, want: []string{"NATS_URL"}},
		"nothing but a comma":        {mutate: func(c *natsconn.Config) { c.NATSURL = []settings.URL{","} }, want: []string{"NATS_URL"}},
		"a password behind the host": {mutate: func(c *natsconn.Config) { c.NATSURL = []settings.URL{"nats://a?password=p"} }, want: []string{"NATS_URL"}},
		"a password with a slash":    {mutate: func(c *natsconn.Config) { c.NATSURL = []settings.URL{"nats://u:12/3@a"} }, want: []string{"NATS_URL"}},
		"a name alone":               {mutate: func(c *natsconn.Config) { c.NATSURL = []settings.URL{"nats://a", "foo"} }, want: []string{"NATS_URL"}},
		"no host":                    {mutate: func(c *natsconn.Config) { c.NATSURL = []settings.URL{"nats://:4222"} }, want: []string{"NATS_URL"}},
		"another kind":               {mutate: func(c *natsconn.Config) { c.NATSURL = []settings.URL{"redis://a"} }, want: []string{"NATS_URL"}},
		"an inbox of its own":        {mutate: func(c *natsconn.Config) { c.NATSInboxPrefix = "_INBOX_edge" }},
		"everybody's inbox":          {mutate: func(c *natsconn.Config) { c.NATSInboxPrefix = "_INBOX.>" }, want: []string{"NATS_INBOX_PREFIX"}},
		"a domain":                   {mutate: func(c *natsconn.Config) { c.NATSJetStreamDomain = "hub" }},
		"the prefix of a domain":     {mutate: func(c *natsconn.Config) { c.NATSJetStreamDomain = "$JS.hub.API" }, want: []string{"NATS_JETSTREAM_DOMAIN"}},
		"files that are not there": {mutate: func(c *natsconn.Config) {
			c.NATSCredsFile, c.NATSTLSCA, c.NATSTLSCert, c.NATSTLSKey = "/no", "/no", "/no", "/no"
		}, want: []string{"NATS_CREDS_FILE", "NATS_TLS_CA", "NATS_TLS_CERT"}},
		"files of another kind": {mutate: func(c *natsconn.Config) {
			const other = "natsconn_test.go"
			c.NATSCredsFile, c.NATSTLSCA, c.NATSTLSCert, c.NATSTLSKey = other, other, other, other
		}, want: []string{"NATS_CREDS_FILE", "NATS_TLS_CA", "NATS_TLS_CERT"}},
		"no seed":        {mutate: func(c *natsconn.Config) { c.NATSNkeyFile = "natsconn_test.go" }, want: []string{"NATS_NKEY_FILE"}},
		"two identities": {mutate: func(c *natsconn.Config) { c.NATSCredsFile, c.NATSNkeyFile = "/no", "/no" }, want: []string{"NATS_NKEY_FILE", "NATS_CREDS_FILE", "NATS_NKEY_FILE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := settings.Default[natsconn.Config]()
			c.mutate(&cfg)
			var got []string
			cfg.Validate(func(setting, _ string) { got = append(got, setting) })
			require.Equal(t, c.want, got)
		})
	}
}

func TestMistakesInTheConfigurationAreErrors(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSTLSCA = "/does/not/exist"
	_, err := natsconn.Connect(t.Context(), cfg, "test", slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil)
	require.Error(t, err)
}

// Regression: the library writes with the lock of the connection held. A server
// that did not read any more kept it for a minute, once the buffers were full,
// and with it pings, publishes and all that asked how the connection was.
func TestServerThatStopsReadingUnderLoadIsGivenUp(t *testing.T) {
	t.Parallel()
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		givenUpUnderLoad(t, testserver.NATS(t), func(*natsconn.Config) {})
	})
	t.Run("over TLS", func(t *testing.T) {
		t.Parallel()
		shown := testserver.NewCertificate(t, 1)
		pair, err := tls.X509KeyPair(shown.Certificate, shown.Key)
		require.NoError(t, err)
		ca := filepath.Join(t.TempDir(), "ca.crt")
		require.NoError(t, os.WriteFile(ca, shown.Certificate, 0o600))
		s := testserver.NATS(t, func(o *server.Options) {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
		})
		givenUpUnderLoad(t, s, func(cfg *natsconn.Config) { cfg.NATSTLSCA = ca })
	})
}

func givenUpUnderLoad(t *testing.T, s *testserver.NATSServer, change func(*natsconn.Config)) {
	network := testserver.NATSProxy(t, s)
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSURL = []settings.URL{settings.URL(network.URL())}
	change(&cfg)
	reg := prometheus.NewPedanticRegistry()
	c, err := natsconn.Connect(t.Context(), cfg, "test", slog.New(slog.DiscardHandler), reg, nil)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
	network.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	defer publishers.Wait()
	defer cancel()
	for range 4 {
		publishers.Go(func() {
			for ctx.Err() == nil {
				_ = c.NC.Publish("x", make([]byte, 512<<10))
			}
		})
	}
	require.Eventually(t, func() bool {
		ok, detail := c.Check()
		return !ok && strings.Contains(detail, "silent")
	}, waitTime, time.Millisecond)
	up(t, reg, "0")
	network.Cut() // what it kept would come, and end the connection in its own way
	network.Heal()
	require.Eventually(t, ready(c), waitTime, time.Millisecond, "it comes back")
}

// Whoever may subscribe to another's inbox reads what that one is answered: each
// node's answers come under its own prefix.
func TestAnswersComeUnderThePrefixThatIsConfigured(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	c, _ := connect(t, s.ClientURL(), nil, func(cfg *natsconn.Config) { cfg.NATSInboxPrefix = "_INBOX_edge" })
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
	seen := testserver.Listen(t, testserver.Connect(t, s.ClientURL()), "$JS.API.INFO")
	_, err := c.JS.AccountInfo(t.Context())
	require.NoError(t, err)
	asked, err := seen.NextMsg(waitTime)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(asked.Reply, "_INBOX_edge."), asked.Reply)
	require.True(t, strings.HasPrefix(c.NC.NewInbox(), "_INBOX_edge."))
}

// A node that may not hear its answers looked like one whose NATS is slow.
func TestACheckSaysThatAnswersAreForbiddenUntilTheyAreNot(t *testing.T) {
	t.Parallel()
	permitted := func(subject string) *server.User {
		return &server.User{Username: "u", Password: "p", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Allow: []string{subject}},
		}}
	}
	var options *server.Options
	s := testserver.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{permitted("_INBOX.>")}
		options = o
	})
	c, _ := connect(t, strings.Replace(s.ClientURL(), "://", "://u:p@", 1), nil, func(cfg *natsconn.Config) { cfg.NATSInboxPrefix = "_INBOX_edge" })
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := c.JS.AccountInfo(ctx)
		return err
	}
	require.Eventually(t, func() bool {
		_ = ask()
		ok, detail := c.Check()
		return !ok && strings.Contains(detail, "may not subscribe to _INBOX_edge.>") && strings.Contains(detail, "NATS_INBOX_PREFIX")
	}, waitTime, time.Millisecond)
	mended := *options
	mended.Users = []*server.User{permitted("_INBOX_edge.>")}
	require.NoError(t, s.Server().ReloadOptions(&mended))
	require.Eventually(t, func() bool { return ask() == nil && ready(c)() }, waitTime, 10*time.Millisecond)
}

// A password that others on the way may read is told of when a node starts.
func TestAPasswordForNATSInPlainTextIsNoticed(t *testing.T) {
	t.Parallel()
	for url, want := range map[settings.URL]bool{
		"nats://u:pw@nats.example:4222": true,
		"nats://token@10.0.0.1":         true,
		"ws://u:pw@nats.example":        true,
		"tls://u:pw@nats.example:4222":  false,
		"wss://u:pw@nats.example":       false,
		"nats://nats.example:4222":      false,
		"nats://u:pw@127.0.0.1:4222":    false,
		"nats://u:pw@[::1]:4222":        false,
	} {
		cfg := natsconn.Config{NATSURL: []settings.URL{"nats://127.0.0.1", url}}
		require.Equal(t, want, cfg.Exposed(), string(url))
		cfg.NATSTLSCA = "ca.pem"
		require.False(t, cfg.Exposed(), "with an authority the client insists on TLS")
	}
}

func detailOf(c *natsconn.Conn) string {
	_, detail := c.Check()
	return detail
}

// guard lets clients in, or refuses them.
type guard struct {
	open    atomic.Bool
	refused atomic.Int64
}

// Check implements server.Authentication.
func (g *guard) Check(server.ClientAuthentication) bool {
	if !g.open.Load() {
		g.refused.Add(1)
	}
	return g.open.Load()
}

// nats-io/nats.go#499, nats-io/nats.node#533: a client that is refused twice by a server closes itself for good,
// although its user is about to be let in.
func TestAUserThatIsRefusedIsTriedUntilItIsNot(t *testing.T) {
	t.Parallel()
	g := &guard{}
	s := testserver.NATS(t, func(o *server.Options) { o.CustomClientAuthentication = g })
	c, _ := connect(t, s.ClientURL(), nil)
	require.Eventually(t, func() bool { return g.refused.Load() >= 5 }, waitTime, time.Millisecond)
	_, detail := c.Check()
	require.Contains(t, strings.ToLower(detail), "authorization")
	g.open.Store(true)
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
}

// nats-io/nats.go#1921, nats-io/nats-server#7527: while servers are restarted one after the other, connections
// count twice, and a client that finds no room closes itself for good.
func TestAServerWithoutRoomIsTriedUntilThereIsSome(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t, func(o *server.Options) { o.MaxConn = 1 })
	other, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	defer other.Close()
	c, _ := connect(t, s.ClientURL(), nil)
	require.Eventually(t, func() bool { return strings.Contains(detailOf(c), "it closed the connection") }, waitTime, time.Millisecond)
	other.Close()
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
}
