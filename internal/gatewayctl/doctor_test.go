package gatewayctl_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/gatewayctl"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const patience = testserver.Patience

func TestMain(m *testing.M) { testserver.Main(m) }

// patient is a gateway that is examined.
type patient struct {
	t     *testing.T
	nats  *testserver.NATSServer
	told  *testserver.Journal
	peers []string
	extra []string // flags of doctor
	conn  natsconn.Config
}

// admit starts a NATS server, with a monitoring port.
func admit(t *testing.T, change ...func(*server.Options)) *patient {
	t.Helper()
	p := &patient{t: t, told: &testserver.Journal{}}
	p.nats = testserver.NATS(t, append(change, func(o *server.Options) { o.HTTPHost, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT })...)
	p.conn = settings.Default[natsconn.Config]()
	p.conn.NATSURL = []settings.URL{settings.URL(p.nats.ClientURL())}
	return p
}

func (p *patient) logger() *slog.Logger { return slog.New(slog.NewTextHandler(p.told, nil)) }

// run runs a node until the test ends.
func (p *patient) run(node interface{ Run(context.Context) error }, err error) {
	p.t.Helper()
	require.NoError(p.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		require.NoError(p.t, <-ended)
	})
}

func (p *patient) gossip() string {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(testserver.Port(p.t)))
	p.peers = append(p.peers, address)
	return address
}

func (p *patient) router() {
	p.t.Helper()
	cfg := settings.Default[router.Config]()
	cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = "router-1", p.conn, "127.0.0.1:0"
	cfg.Ring.GossipJoin, cfg.Ring.GossipAddr = p.peers, p.gossip()
	r, err := router.New(cfg, p.logger())
	p.run(r, err)
}

// edge starts one, which shows a certificate if there is one.
func (p *patient) edge(shown *testserver.Certificate) {
	p.t.Helper()
	cfg := settings.Default[edge.Config]()
	cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = "edge-1", p.conn, "127.0.0.1:0"
	cfg.Ring.GossipJoin, cfg.Ring.GossipAddr = p.peers, p.gossip()
	cfg.Listen.ListenAddr, cfg.Listen.DrainPeriod = "127.0.0.1:0", 0
	cfg.Auth.DaemonJWTSecret = "a-secret-of-the-tests-with-enough-bytes"
	if shown != nil {
		cfg.Listen.TLS.TLSCertFile, cfg.Listen.TLS.TLSKeyFile = shown.Files(p.t)
	}
	e, err := edge.New(cfg, p.logger())
	p.run(e, err)
}

func (p *patient) bridge() {
	p.t.Helper()
	cfg := settings.Default[bridge.Config]()
	cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = "bridge-1", p.conn, "127.0.0.1:0"
	cfg.Redis.RedisURL = settings.URL(testserver.Redis(p.t).URL())
	b, err := bridge.New(cfg, p.logger())
	p.run(b, err)
}

// everybody starts a node of each tier.
func (p *patient) everybody(shown *testserver.Certificate) {
	p.t.Helper()
	p.router()
	p.edge(shown)
	p.bridge()
}

// finding is what doctor says of one thing.
type finding struct {
	Area, Of, Problem, Do string
	Advice                bool
}

// examine calls doctor, and returns what it has found in an area and its exit code; -1 if
// no node was there yet to tell it something. It is called from conditions that are
// waited for, which must not end the test.
func (p *patient) examine(area string) (found []finding, code int) {
	var out, told bytes.Buffer
	args := append([]string{"doctor", "-o", "json", "--nats-url", p.nats.ClientURL(), "--nats-monitor", "http://" + p.nats.Server().MonitorAddr().String()}, p.extra...)
	code = gatewayctl.Run(p.t.Context(), args, func(string) (string, bool) { return "", false }, strings.NewReader(""), &out, &told)
	var report struct{ Symptoms []finding }
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		return nil, -1
	}
	for _, s := range report.Symptoms {
		assert.NotEmpty(p.t, s.Do, "%+v", s)
		if s.Area == area || area == "" && !s.Advice {
			found = append(found, s)
		}
	}
	return found, code
}

// finds waits until doctor has found this and nothing else in an area.
func (p *patient) finds(area string, want finding) {
	p.t.Helper()
	want.Area = area
	var found []finding
	var code int
	require.Eventually(p.t, func() bool {
		found, code = p.examine(area)
		return len(found) == 1 && found[0].Of == want.Of && strings.HasPrefix(found[0].Problem, want.Problem) &&
			strings.HasPrefix(found[0].Do, want.Do) && found[0].Advice == want.Advice
	}, patience, 100*time.Millisecond, "%+v is wanted, found is %+v, nodes say %s", want, &found, p.told)
	if !want.Advice {
		require.Equal(p.t, 1, code, "something is to be mended")
	}
}

// Nothing of what follows is found where nothing is wrong.
func TestTheDoctorFindsNothingToMendInAClusterThatIsWell(t *testing.T) {
	t.Parallel()
	shown := testserver.NewCertificateFor(t, 1, 90*24*time.Hour)
	p := admit(t, func(o *server.Options) { o.SyncAlways = true })
	p.everybody(&shown)
	var found []finding
	require.Eventually(t, func() bool {
		var code int
		found, code = p.examine("")
		return code == 0 && len(found) == 0
	}, patience, 100*time.Millisecond, "%+v", &found)
	for _, area := range []string{"clocks", "sync", "certificates"} {
		found, _ = p.examine(area)
		require.Empty(t, found, area)
	}
	found, _ = p.examine("streams")
	require.Len(t, found, 1, "%+v", found)
	require.Contains(t, found[0].Problem, "STREAM_REPLICAS=1", "advice")
}

// Somebody changes a stream. What a router would set right, and what nobody would, are
// not mended in the same way.
func TestTheDoctorFindsStreamsThatDrifted(t *testing.T) {
	t.Parallel()
	p := admit(t)
	p.everybody(nil)
	p.finds("streams", finding{Of: "streams", Problem: "each is held by one NATS server alone", Advice: true})
	js := p.nats.JetStream()
	const routers, byHand = "Somebody has changed it, or nodes were given other settings: routers put it right when they start", "Somebody has changed it, and no setting says so: nats stream edit, as the user backup"
	for _, fault := range []struct {
		stream      string
		change      func(*jetstream.StreamConfig)
		problem, do string
	}{
		{event.StreamName(3), func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "max_age is 1h0m0s, as configured it is 168h0m0s", routers},
		{event.StreamName(3), func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }, "max_bytes is 1048576, as configured it is ", routers},
		{event.StreamName(3), func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, "duplicate_window is 1m0s, as configured it is 2m0s", routers},
		{event.StreamName(4), func(c *jetstream.StreamConfig) { c.MaxMsgs = 5 }, "max_msgs is 5, as configured it is -1", byHand},
		{event.StreamName(4), func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "allow_direct is false, as configured it is true", ""},
		{eventlog.DeadletterStream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "max_age is 1h0m0s, as configured it is 720h0m0s", routers},
	} {
		stream, err := js.Stream(t.Context(), fault.stream)
		require.NoError(t, err)
		before := stream.CachedInfo().Config
		changed := before
		fault.change(&changed)
		_, err = js.UpdateStream(t.Context(), changed)
		require.NoError(t, err, fault.problem)
		p.finds("streams", finding{Of: fault.stream, Problem: fault.problem, Do: fault.do})
		_, err = js.UpdateStream(t.Context(), before)
		require.NoError(t, err)
	}
	p.finds("streams", finding{Of: "streams", Problem: "each is held by one NATS server alone", Advice: true})
}

// How often a server syncs is read from its own monitoring port.
func TestTheDoctorFindsHowOftenNATSSyncs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*server.Options)
		want   *finding
	}{
		"always":        {func(o *server.Options) { o.SyncAlways = true }, nil},
		"by default":    {func(*server.Options) {}, &finding{Problem: "it syncs to disk every 2m0s, and there is one replica", Do: "What it has acknowledged since the last sync is lost with the power: sync_interval: always", Advice: true}},
		"every 10 min.": {func(o *server.Options) { o.SyncInterval = 10 * time.Minute }, &finding{Problem: "it syncs to disk every 10m0s only", Do: "Set sync_interval to always where all replicas may lose power at once"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := admit(t, tt.change)
			p.router()
			if tt.want == nil {
				p.finds("streams", finding{Of: "streams", Problem: "each is held by one", Advice: true}) // the log is known
				found, _ := p.examine("sync")
				require.Empty(t, found)
				return
			}
			tt.want.Of = "NATS at http://" + p.nats.Server().MonitorAddr().String()
			p.finds("sync", *tt.want)
		})
	}
}

// An edge's certificate is read by the edge, that of a NATS server is what it shows.
func TestTheDoctorFindsCertificatesThatEndSoon(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	const do = "Renew it; nodes read the files again by themselves"
	for name, tt := range map[string]struct {
		lasts time.Duration
		want  *finding
	}{
		"in 3 days":  {3*day + time.Hour, &finding{Do: do}},
		"in 20 days": {20*day + time.Hour, &finding{Do: do, Advice: true}},
		"in 90 days": {90 * day, nil},
	} {
		ends := func(c testserver.Certificate) string {
			pair, err := tls.X509KeyPair(c.Certificate, c.Key)
			require.NoError(t, err)
			return "its certificate ends " + pair.Leaf.NotAfter.UTC().Format(time.RFC3339) + ", in "
		}
		t.Run("of an edge "+name, func(t *testing.T) {
			t.Parallel()
			shown := testserver.NewCertificateFor(t, 1, tt.lasts)
			p := admit(t)
			p.everybody(&shown)
			p.judge("edge edge-1", ends(shown), tt.want)
		})
		t.Run("of NATS "+name, func(t *testing.T) {
			t.Parallel()
			shown := testserver.NewCertificateFor(t, 1, tt.lasts)
			pair, err := tls.X509KeyPair(shown.Certificate, shown.Key)
			require.NoError(t, err)
			p := admit(t, func(o *server.Options) {
				o.TLSConfig, o.TLSTimeout = &tls.Config{Certificates: []tls.Certificate{pair}}, patience.Seconds()
			})
			authority, _ := shown.Files(t)
			p.conn.NATSTLSCA, p.extra = authority, []string{"--nats-tls-ca", authority}
			p.everybody(nil)
			p.judge("NATS server "+p.nats.Server().Name(), ends(shown), tt.want)
		})
	}
}

// judge waits until doctor has found what is wanted of certificates: nil is nothing, once
// all nodes are well.
func (p *patient) judge(of, problem string, want *finding) {
	p.t.Helper()
	if want != nil {
		found := *want
		found.Of, found.Problem = of, problem
		p.finds("certificates", found)
		return
	}
	require.Eventually(p.t, func() bool {
		found, code := p.examine("")
		return code == 0 && len(found) == 0
	}, patience, 100*time.Millisecond, p.told)
	found, _ := p.examine("certificates")
	require.Empty(p.t, found)
}

// node answers operators as a node does, by another clock.
func (p *patient) node(tier operation.Tier, name string, ahead time.Duration) {
	p.t.Helper()
	conn, err := natsconn.Connect(p.t.Context(), p.conn, name, p.logger(), prometheus.NewRegistry(), nil)
	require.NoError(p.t, err)
	p.t.Cleanup(conn.Close)
	p.run(operation.NewService(conn, operation.Node{
		Member: operation.Member{Tier: tier, Node: name}, Holds: func() map[string]int { return nil },
		Shown: admin.Node{Tier: string(tier), Name: name, Registry: prometheus.NewRegistry()},
		Clock: func() time.Time { return time.Now().Add(ahead) },
	}, p.logger()), nil)
}

// The clocks alone are not real.
func TestTheDoctorFindsClocksThatDiffer(t *testing.T) {
	t.Parallel()
	const do = "Keep the clocks of the machines with NTP"
	for name, tt := range map[string]struct {
		ahead map[operation.Tier]time.Duration
		want  *finding
	}{
		"none":                    {nil, nil},
		"by what does not matter": {map[operation.Tier]time.Duration{operation.Edge: time.Second}, nil},
		"one is ahead":            {map[operation.Tier]time.Duration{operation.Edge: 10 * time.Second}, &finding{Of: "edge edge-1", Problem: "its clock is at least ", Do: do}},
		"one is behind":           {map[operation.Tier]time.Duration{operation.Bridge: -time.Minute}, &finding{Problem: "its clock is at least ", Do: do}},
		"all but this machine's": {map[operation.Tier]time.Duration{operation.Edge: time.Minute, operation.Router: time.Minute, operation.Bridge: time.Minute},
			&finding{Of: "this machine", Problem: "its clock is not that of the nodes, which agree", Do: do, Advice: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := admit(t)
			for _, tier := range operation.Tiers {
				p.node(tier, string(tier)+"-1", tt.ahead[tier])
			}
			require.Eventually(t, func() bool {
				found, _ := p.examine("nodes")
				return len(found) == 0
			}, patience, 100*time.Millisecond, "all of them answer")
			found, _ := p.examine("clocks")
			if tt.want == nil {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			if tt.want.Of != "" {
				require.Equal(t, tt.want.Of, found[0].Of)
			}
			require.Contains(t, found[0].Problem, tt.want.Problem)
			require.Contains(t, found[0].Do, tt.want.Do)
			require.Equal(t, tt.want.Advice, found[0].Advice)
		})
	}
}
