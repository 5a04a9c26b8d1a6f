package beats

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const patience = testserver.Patience

var receivedAt = time.Date(2026, 11, 22, 10, 0, 0, 120_000_000, time.UTC)

func someBeat(orchestrator protocol.OrchestratorID) heartbeat.Beat {
	return heartbeat.Beat{
		Orchestrator: orchestrator, Daemon: "daemon", Session: protocol.SessionID("session of " + orchestrator),
		Status: protocol.StatusBusy, Metrics: []byte(`{"errors":3}`), ReceivedAt: receivedAt, Organization: "org",
	}
}

// site is a NATS server with an edge's connection, and Neolith's on Redis.
type site struct {
	t       testing.TB
	nats    *testserver.NATSServer
	edge    *nats.Conn
	redis   *testserver.RedisServer
	neolith *redis.Client
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, nats: testserver.NATS(t), redis: testserver.Redis(t)}
	s.edge = s.connect()
	s.neolith = s.redis.Client()
	return s
}

func (s *site) connect() *nats.Conn {
	s.t.Helper()
	return testserver.Connect(s.t, s.nats.ClientURL())
}

// client returns a client as bridges have it, with more time.
func (s *site) client(change ...func(*redis.UniversalOptions)) redis.UniversalClient {
	options := &redis.UniversalOptions{
		Addrs: []string{s.redis.Addr()}, Protocol: 2, DialerRetries: 1, MaxRetries: -1,
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, ContextTimeoutEnabled: true,
	}
	for _, f := range change {
		f(options)
	}
	client := redis.NewUniversalClient(options)
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// bridge is a writer that runs.
type bridge struct {
	*Writer
	t    testing.TB
	reg  *prometheus.Registry
	stop func()
}

func (s *site) bridge(client redis.UniversalClient) *bridge {
	s.t.Helper()
	conn := s.connect()
	b := &bridge{t: s.t, reg: prometheus.NewPedanticRegistry()}
	b.Writer = New(conn, client, slog.New(slog.DiscardHandler), b.reg)
	b.batchTimeout, b.lastWrite = patience, patience
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	stopped := false
	b.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(s.t, <-ended)
		}
	}
	s.t.Cleanup(b.stop)
	require.Eventually(s.t, func() bool { return conn.NumSubscriptions() == 1 }, patience, time.Millisecond)
	require.NoError(s.t, conn.Flush())
	return b
}

// say publishes a batch as an edge does.
func (s *site) say(beats ...heartbeat.Beat) {
	s.t.Helper()
	data, err := json.Marshal(beats)
	require.NoError(s.t, err)
	require.NoError(s.t, s.edge.Publish(heartbeat.Subject(7), data))
	require.NoError(s.t, s.edge.Flush())
}

func (b *bridge) outcome(o outcome) int {
	return int(testutil.ToFloat64(b.metrics.beats.Of(o)))
}

func (b *bridge) await(o outcome, n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.outcome(o) == n }, patience, 5*time.Millisecond, "%d are %s", n, o)
}

func (s *site) get(key string) string {
	s.t.Helper()
	text, err := s.neolith.Get(s.t.Context(), key).Result()
	require.NoError(s.t, err)
	return text
}

func TestAHeartbeatIsWhereNeolithReadsIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	live := s.neolith.Subscribe(t.Context(), "daemon:heartbeats:org")
	defer func() { _ = live.Close() }()
	_, err := live.Receive(t.Context())
	require.NoError(t, err)
	s.say(someBeat("vp"))

	message, err := live.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"heartbeat","orchestratorId":"vp","status":"busy","receivedAt":"2026-11-22T10:00:00.120Z"}`, message.Payload)
	b.await(written, 1)
	want := `{"orchestratorId":"vp","daemonId":"daemon","sessionId":"session of vp","status":"busy","metrics":{"errors":3},
		"receivedAt":"2026-11-22T10:00:00.120Z","organizationId":"org"}`
	require.JSONEq(t, want, s.get("daemon:heartbeat:vp"))
	require.InDelta(t, 90, s.neolith.TTL(t.Context(), "daemon:heartbeat:vp").Val().Seconds(), 20)
	history := s.neolith.LRange(t.Context(), "daemon:metrics:vp", 0, -1).Val()
	require.Len(t, history, 1)
	require.JSONEq(t, `{"errors":3,"timestamp":"2026-11-22T10:00:00.120Z"}`, history[0])
	require.InDelta(t, 24*3600, s.neolith.TTL(t.Context(), "daemon:metrics:vp").Val().Seconds(), 60)
	problems, err := testutil.GatherAndLint(b.reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestWhatADaemonDoesNotSay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	quiet := someBeat("vp")
	quiet.Status, quiet.Metrics, quiet.Organization = "", nil, ""
	canary := someBeat("_canary_edge")
	s.say(quiet, canary)
	b.await(written, 1)
	require.JSONEq(t, `{"orchestratorId":"vp","daemonId":"daemon","sessionId":"session of vp","status":"active","metrics":{},
		"receivedAt":"2026-11-22T10:00:00.120Z"}`, s.get("daemon:heartbeat:vp"))
	require.ElementsMatch(t, []string{"daemon:heartbeat:vp", "routing:session:vp", "presence:vp:vp", "presence:heartbeat:vp:vp"}, s.neolith.Keys(t.Context(), "*").Val(),
		"no metrics, and no canaries")
}

// Neolith's message router takes for connected whose key there is with the status
// "active", and puts messages for all others into a queue: those for a daemon that
// is busy went there.
func TestNeolithsRouterKnowsWhoIsConnected(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	opened := someBeat("vp")
	opened.Status, opened.Metrics, opened.Opened, opened.ConnectedAt = "", nil, true, receivedAt
	s.say(opened)
	b.await(written, 1)
	require.JSONEq(t, `{"orchestratorId":"vp","daemonId":"daemon","sessionId":"session of vp","status":"active",
		"connectedAt":"2026-11-22T10:00:00.120Z","createdAt":"2026-11-22T10:00:00.120Z",
		"lastHeartbeatAt":"2026-11-22T10:00:00.120Z","lastActiveAt":"2026-11-22T10:00:00.120Z"}`, s.get("routing:session:vp"))
	require.Empty(t, s.neolith.Keys(t.Context(), "daemon:*").Val(), "it has said nothing yet")
	beat := someBeat("vp")
	beat.ConnectedAt, beat.ReceivedAt = receivedAt, receivedAt.Add(30*time.Second)
	s.say(beat)
	b.await(written, 2)
	require.JSONEq(t, `{"orchestratorId":"vp","daemonId":"daemon","sessionId":"session of vp","status":"active",
		"connectedAt":"2026-11-22T10:00:00.120Z","createdAt":"2026-11-22T10:00:00.120Z",
		"lastHeartbeatAt":"2026-11-22T10:00:30.120Z","lastActiveAt":"2026-11-22T10:00:30.120Z"}`, s.get("routing:session:vp"))
	require.InDelta(t, 120, s.neolith.TTL(t.Context(), "routing:session:vp").Val().Seconds(), 20)
}

// Where Neolith has a presence service, its message router asks that instead: ONLINE
// in the hash, for as long as the other key lives.
func TestNeolithsPresenceServiceKnowsWhoIsConnected(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	require.NoError(t, s.neolith.HSet(t.Context(), "presence:vp:vp", "vpId", "vp", "status", "OFFLINE", "daemonInfo", `{"hostname":"h"}`).Err())
	s.say(someBeat("vp"))
	b.await(written, 1)
	require.Equal(t, map[string]string{
		"vpId": "vp", "status": "ONLINE", "lastHeartbeat": "2026-11-22T10:00:00.120Z", "daemonInfo": `{"hostname":"h"}`,
	}, s.neolith.HGetAll(t.Context(), "presence:vp:vp").Val(), "what Neolith knows of the daemon stays")
	require.EqualValues(t, -1, s.neolith.TTL(t.Context(), "presence:vp:vp").Val())
	require.InDelta(t, 120, s.neolith.TTL(t.Context(), "presence:heartbeat:vp:vp").Val().Seconds(), 20)
}

// An operator whose Neolith has no presence service need not allow its keys.
func TestThePresenceServicesKeysMayBeForbidden(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, s.neolith.Do(t.Context(), "ACL", "SETUSER", "bridge", "on", ">pw", "+@all", "~daemon:*", "~routing:*", "&*").Err())
	b := s.bridge(s.client(func(o *redis.UniversalOptions) { o.Username, o.Password = "bridge", "pw" }))
	s.say(someBeat("vp"))
	b.await(written, 1)
	require.NotEmpty(t, s.get("routing:session:vp"))
	ok, detail := b.Check()
	require.True(t, ok, detail)
}

func TestTheSessionsLastHeartbeatMovesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	const held = `{"scopes":[],"orchestratorId":"vp","n":1.50,"lastHeartbeat":"2026-11-22T09:00:00.000Z"}`
	require.NoError(t, s.neolith.Set(t.Context(), "daemon:session:daemon", held, time.Hour).Err())
	s.say(someBeat("vp"), someBeat("another"))
	b.await(written, 2)
	text := s.get("daemon:session:daemon")
	require.JSONEq(t, `{"scopes":[],"orchestratorId":"vp","n":1.50,"lastHeartbeat":"2026-11-22T10:00:00.120Z"}`, text)
	require.Contains(t, text, "1.50", "the rest stays as it is")
	require.InDelta(t, 3600, s.neolith.TTL(t.Context(), "daemon:session:daemon").Val().Seconds(), 120)
}

func TestHowASessionMovesOn(t *testing.T) {
	t.Parallel()
	const moved = `"2026-11-22T10:00:00.120Z"`
	for name, tt := range map[string]struct{ session, want string }{
		"as text":              {`{"orchestratorId":"vp","lastHeartbeat":"2026-11-22T09:00:00.000Z"}`, moved},
		"as a number":          {`{"orchestratorId":"vp","lastHeartbeat":1732266000000}`, fmt.Sprint(receivedAt.UnixMilli())},
		"not there yet":        {`{"orchestratorId":"vp"}`, moved},
		"null":                 {`{"orchestratorId":"vp","lastHeartbeat":null}`, moved},
		"newer":                {`{"orchestratorId":"vp","lastHeartbeat":"2026-11-22T10:00:01.000Z"}`, ""},
		"newer, as a number":   {fmt.Sprintf(`{"orchestratorId":"vp","lastHeartbeat":%d}`, receivedAt.UnixMilli()), ""},
		"another orchestrator": {`{"orchestratorId":"other"}`, ""},
		"nobody's":             {`{}`, ""},
		"none":                 {"", ""},
		"null itself":          {"null", ""},
		"no object":            {"[1]", ""},
	} {
		text, ok := movedOn(tt.session, "vp", receivedAt)
		require.Equal(t, tt.want != "", ok, name)
		if ok {
			require.JSONEq(t, `{"orchestratorId":"vp","lastHeartbeat":`+tt.want+`}`, text, name)
		}
	}
}

func TestMetricsHaveTheTimeBesideThem(t *testing.T) {
	t.Parallel()
	for metrics, want := range map[string]string{
		`{"a":1}`:                        `{"a":1,"timestamp":"T"}`,
		` { "a" : { "b" : [] } } `:       `{ "a" : { "b" : [] } ,"timestamp":"T"}`,
		`{}`:                             `{"timestamp":"T"}`,
		` { } `:                          `{ "timestamp":"T"}`,
		`{"timestamp":"mine","n":1e999}`: `{"timestamp":"mine","n":1e999,"timestamp":"T"}`,
	} {
		require.Equal(t, want, string(withTimestamp([]byte(metrics), "T")))
	}
}

func TestTheLastHundredMetricsNewestFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	const said = 130
	for i := range said {
		h := someBeat("vp")
		h.Session = protocol.SessionID(fmt.Sprint(i)) // else only the newest of those that wait is written
		h.Metrics = fmt.Appendf(nil, `{"errors":3,"n":%d}`, i)
		h.ReceivedAt = receivedAt.Add(time.Duration(i) * time.Second)
		s.say(h)
	}
	b.await(written, said)
	history := s.neolith.LRange(t.Context(), "daemon:metrics:vp", 0, -1).Val()
	require.Len(t, history, 100)
	for i, text := range history {
		require.Contains(t, text, fmt.Sprintf(`"n":%d,"timestamp"`, said-1-i))
	}
}

func TestOfSeveralDaemonsTheNewestHeartbeatWins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	older, newer := someBeat("vp"), someBeat("vp")
	newer.Session, newer.Daemon, newer.ReceivedAt = "other", "other", receivedAt.Add(time.Second)
	s.say(newer, older)
	b.await(written, 2)
	require.Contains(t, s.get("daemon:heartbeat:vp"), `"daemonId":"other"`)
	require.EqualValues(t, 2, s.neolith.LLen(t.Context(), "daemon:metrics:vp").Val(), "the metrics of both are kept")
}

func TestOneOfTheBridgesWritesEachHeartbeat(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.bridge(s.client()), s.bridge(s.client())
	const said = 50
	for i := range said {
		s.say(someBeat(protocol.OrchestratorID(fmt.Sprintf("vp-%d", i))))
	}
	require.Eventually(t, func() bool { return one.outcome(written)+two.outcome(written) == said }, patience, 5*time.Millisecond)
	for i := range said {
		require.EqualValues(t, 1, s.neolith.LLen(t.Context(), fmt.Sprintf("daemon:metrics:vp-%d", i)).Val())
	}
}

func TestWhatIsNoHeartbeatIsCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	require.NoError(t, s.edge.Publish(heartbeat.Subject(0), []byte("nonsense")))
	b.await(malformed, 1)
	s.say(someBeat("vp"))
	b.await(written, 1)
}

func TestWhatIsHeldAtTheEndIsWritten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	b.add(someBeat("vp"), time.Now())
	b.stop()
	require.Equal(t, 1, b.outcome(written))
}

func TestSentinelsAreAskedForTheMaster(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sentinel := testserver.Sentinel(t, 1)
	b := s.bridge(s.client(func(o *redis.UniversalOptions) {
		o.Addrs, o.MasterName = sentinel.Addrs(), testserver.SentinelMaster
	}))
	master := sentinel.Nodes[0].Client()
	s.say(someBeat("vp"))
	b.await(written, 1)
	require.EqualValues(t, 1, master.Exists(t.Context(), "daemon:heartbeat:vp").Val())
}
