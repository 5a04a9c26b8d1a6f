package natsconn_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// A user of the documentation of NATS.
const (
	nkeySeed   = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
	nkeyPublic = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
)

// reached requires that nodes, and the tools of operators, get in at a server.
func reached(t *testing.T, s *testserver.NATSServer, change func(*natsconn.Config)) {
	t.Helper()
	c, _ := connect(t, s.ClientURL(), nil, change)
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
	s.Restart()
	require.Eventually(t, ready(c), waitTime, time.Millisecond, "and again")
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSURL = []settings.URL{settings.URL(s.ClientURL())}
	change(&cfg)
	require.NoError(t, settings.Validate(&cfg))
	conn, err := natsconn.Dial(cfg, "tool", waitTime)
	require.NoError(t, err)
	conn.Close()
}

func TestAServerMayKnowUsersByNkeys(t *testing.T) {
	t.Parallel()
	seed := filepath.Join(t.TempDir(), "user.nk")
	require.NoError(t, os.WriteFile(seed, []byte(nkeySeed+"\n"), 0o600))
	s := testserver.NATS(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: nkeyPublic}} })
	reached(t, s, func(cfg *natsconn.Config) { cfg.NATSNkeyFile = seed })
}

// Such a server says nothing before TLS is spoken, and a client that waits for it
// to say what it is gives up.
func TestAServerMayWantTLSBeforeItSaysAnything(t *testing.T) {
	t.Parallel()
	shown := testserver.NewCertificate(t, 1)
	pair, err := tls.X509KeyPair(shown.Certificate, shown.Key)
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(ca, shown.Certificate, 0o600))
	s := testserver.NATS(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
		o.TLSHandshakeFirst = true
	})
	reached(t, s, func(cfg *natsconn.Config) { cfg.NATSTLSCA, cfg.NATSTLSFirst = ca, true })
}
