package bridge

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// listener is a source on its own, with its log.
type listener struct {
	*source
	in  *inbox
	log *testserver.Journal
}

// listen runs a source until the test ends; change may make it less patient.
func listen(t *testing.T, cfg RedisConfig, change func(*timing)) *listener {
	t.Helper()
	client, err := redisconn.NewClient(cfg.Config)
	require.NoError(t, err)
	channels, patterns := cfg.subscriptions()
	l := &listener{in: newInbox(1000, 1<<20), log: &testserver.Journal{}}
	l.source = &source{
		client: client, channels: channels, patterns: patterns, canary: canary.Channel("test"), timing: defaultTiming,
		echo: newEcho(), server: cfg.Server(),
		push: func(h heard) { l.in.push(h) }, link: newLink(time.Now()),
		metrics: newMetrics(prometheus.NewPedanticRegistry()), logger: slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})), // each try, too
	}
	l.outage = outage.New("not subscribed on Redis", l.logger)
	change(&l.timing)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = client.Close()
	})
	return l
}

func redisConfig(url string) RedisConfig {
	cfg := settings.Default[RedisConfig]()
	cfg.RedisURL = settings.URL(url)
	return cfg
}

func (l *listener) connected() bool { return l.link.state().connected }

// TestDeadConnectionIsGivenUp: a Redis that no longer answers, while its
// socket stays open, is noticed by its silence.
func TestDeadConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	l := listen(t, redisConfig(server.URL()), func(timing *timing) {
		timing.look, timing.ping, timing.dead = 20*time.Millisecond, 1, 10
	})
	eventually(t, l.connected, "subscribed")
	server.Pause()
	eventually(t, func() bool { return strings.Count(l.log.String(), errDead.Error()) > 0 && !l.connected() }, "the dead connection is noticed")
	server.Resume()
	eventually(t, func() bool { return l.connected() && testutil.ToFloat64(l.metrics.gaps) > 0 }, "subscribed again")
}

// Sentinels and managed services turn a master into a replica and lead everybody
// to another server. A subscription that nobody closes stays on the old one, which
// answers pings, and hears nothing more of what is published.
// Reports: redis/go-redis#583.
func TestASubscriptionOnTheMasterOfBeforeIsGivenUp(t *testing.T) {
	t.Parallel()
	before, after := testserver.Redis(t), testserver.Redis(t)
	name := testserver.RedisProxy(t, before)
	l := listen(t, redisConfig(name.URL()), func(timing *timing) { timing.echo = 20 * time.Millisecond })
	eventually(t, l.connected, "subscribed")
	name.Lead(after)
	admin := before.Client()
	require.NoError(t, admin.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	client := after.Client()
	eventually(t, func() bool {
		publish(t, client, "daemon:events", "x")
		return l.in.len() > 0
	}, "what is published on the new master is heard")
	eventually(t, func() bool { return testutil.ToFloat64(l.metrics.gaps) > 0 }, "the gap is counted")
}

// A server that is only a replica brings what its master publishes, so it is heard;
// readiness says what it is.
func TestAReplicaIsHeardAndCalledSo(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	l := listen(t, redisConfig(server.URL()), func(timing *timing) { timing.echo = 20 * time.Millisecond })
	eventually(t, l.connected, "subscribed")
	admin := server.Client()
	detail := func() string { return l.link.state().detail(time.Now(), time.Hour) }
	require.NoError(t, admin.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	eventually(t, func() bool { return strings.Contains(detail(), "read-only") }, "it is said")
	require.NoError(t, admin.ReplicaOf(t.Context(), "no", "one").Err())
	eventually(t, func() bool { return !strings.Contains(detail(), "read-only") }, "and no longer")
}

// A server that loads its data, or cannot save them, answers pings with an error and
// passes on what is published on it. The bridge took that for the end of the
// connection, subscribed anew every few seconds, and missed what was published
// meanwhile.
// Reports: redis/ioredis#358, redis/go-redis#1131, redis/redis#9913.
func TestARedisThatAnswersWithErrorsIsHeard(t *testing.T) {
	t.Parallel()
	for says, server := range map[string]func(*testing.T) (*testserver.RedisServer, fault){
		"LOADING": loading,
		"MISCONF": cannotSave,
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			server, outage := server(t)
			l := listen(t, redisConfig(server.URL()), func(timing *timing) { timing.look, timing.ping, timing.dead = 5*time.Millisecond, 1, 1<<20 })
			eventually(t, l.connected, "subscribed")
			detail := func() string { return l.link.state().detail(time.Now(), time.Hour) }
			client := server.Client()
			outage.begin()
			eventually(t, func() bool { return strings.Contains(detail(), says) }, "it is said")
			require.False(t, l.link.state().works(), "gateway_redis_up has it")
			const messages = 30
			for n := range messages {
				heard := l.link.heardAt()
				publish(t, client, "daemon:events", "x")
				eventually(t, func() bool { return l.in.len() == n+1 && l.link.heardAt().After(heard) }, "the message is heard")
			}
			outage.end()
			eventually(t, func() bool { return l.link.state().works() && !strings.Contains(detail(), says) }, "and no longer")
			require.True(t, l.connected())
			require.Zero(t, testutil.ToFloat64(l.metrics.gaps))
			require.Equal(t, 1, strings.Count(l.log.String(), "answers pings with an error"), "once for all pings")
		})
	}
}

// A replica that has lost its master, and is told not to serve without one, confirms
// subscriptions and brings nothing: what is published on the master does not come.
// Reports: redis/go-redis#3164, flyerhzm/redis-sentinel#5.
func TestAReplicaWithoutItsMasterIsNotHeard(t *testing.T) {
	t.Parallel()
	master := testserver.Redis(t)
	host, port, err := net.SplitHostPort(master.Addr())
	require.NoError(t, err)
	replica := testserver.Redis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0", "--replica-serve-stale-data", "no")
	l := listen(t, redisConfig(replica.URL()), func(timing *timing) { timing.look, timing.ping, timing.dead = 5*time.Millisecond, 1, 1<<20 })
	eventually(t, l.connected, "subscribed")
	master.Kill()
	eventually(t, func() bool { return !l.connected() && strings.Contains(l.link.state().problem, "MASTERDOWN") }, "it is said")
	tries := strings.Count(l.log.String(), "not subscribed on Redis")
	eventually(t, func() bool { return strings.Count(l.log.String(), "not subscribed on Redis") > tries+1 }, "it is tried again")
	require.Zero(t, testutil.ToFloat64(l.metrics.gaps), "and no try passes for a subscription")
	master.Start()
	client := master.Client()
	eventually(t, func() bool {
		publish(t, client, "daemon:events", "x")
		return l.in.len() > 0 && l.connected()
	}, "its master's messages are heard again")
	require.EqualValues(t, 1, testutil.ToFloat64(l.metrics.gaps))
}

// TestCutConnectionIsAGap: go-redis subscribes again behind our back; that
// must be counted, and what comes on the new connection must be heard.
// Reports: redis/go-redis#866, redis/ioredis#85, redis/lettuce#868,
// StackExchange/StackExchange.Redis#517.
func TestCutConnectionIsAGap(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	l := listen(t, redisConfig(server.URL()), func(*timing) {})
	eventually(t, l.connected, "subscribed")
	client := server.Client()
	require.NoError(t, client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
	eventually(t, func() bool { return testutil.ToFloat64(l.metrics.gaps) == 1 && l.connected() }, "the gap is counted")
	publish(t, client, "daemon:events", "x")
	eventually(t, func() bool { return l.in.len() == 1 }, "the message is heard")
}

func TestSilenceIsSaidOnce(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	const said = "nothing is published there"
	l := listen(t, redisConfig(server.URL()), func(timing *timing) {
		timing.look, timing.silent = time.Millisecond, 50*time.Millisecond
	})
	eventually(t, func() bool { return strings.Count(l.log.String(), said) == 1 }, "the silence is said")
	client := server.Client()
	publish(t, client, "daemon:events", "x")
	eventually(t, func() bool { return strings.Count(l.log.String(), said) == 2 }, "a new silence is said again")
}

func TestLinkSaysOneSilenceOnce(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	l := newLink(start)
	require.False(t, l.silent(start.Add(time.Hour), time.Minute), "not connected is another matter")
	require.False(t, l.up(start.Add(time.Second)))
	require.False(t, l.silent(start.Add(time.Minute), time.Minute))
	require.True(t, l.silent(start.Add(time.Hour), time.Minute))
	require.False(t, l.silent(start.Add(2*time.Hour), time.Minute))
	require.Equal(t, 2*time.Hour-time.Second, l.down(start.Add(2*time.Hour), false, false, "gone"))
	require.Equal(t, 11*time.Second, l.disconnected(start.Add(2*time.Hour+10*time.Second)))
	require.True(t, l.up(start.Add(3*time.Hour)), "a gap")
}

// TestSilenceIsCountedInLooks: whoever stood still has had no chance to hear.
func TestSilenceIsCountedInLooks(t *testing.T) {
	t.Parallel()
	l := newLink(time.Unix(0, 0))
	quiet := silence{link: l}
	look := func(times int) (looks int) {
		for range times {
			looks = quiet.look()
		}
		return looks
	}
	require.Zero(t, look(100), "to find a master may take longer than a connection may be silent")
	l.dialed(time.Unix(1000, 0))
	require.Zero(t, look(1))
	require.Equal(t, 11, look(11))
	l.heard(time.Unix(5000, 0), false)
	require.Zero(t, look(1), "however long ago the last look was")
	require.Equal(t, 3, look(3))
	l.dialed(time.Unix(6000, 0))
	require.Equal(t, 4, look(1), "an answer tells more than the connection")
	l.dialing()
	require.Zero(t, look(100))
}

// An operator who has allowed the bridge daemon:events alone, as it was enough
// before, loses nothing; what is allowed later is heard without a gap.
func TestWhatRedisForbidsIsLeftOutAndSaid(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	admin := server.Client()
	acl := func(rules ...any) {
		require.NoError(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "bridge", "on", ">pw", "+@all", "~*"}, rules...)...).Err())
	}
	acl("resetchannels", "&daemon:events", "&daemon:*:events")
	l := listen(t, redisConfig("redis://bridge:pw@"+server.Addr()), func(timing *timing) {
		timing.retry = backoff{first: time.Millisecond, most: 10 * time.Millisecond}
		timing.look, timing.recheck = 10*time.Millisecond, 10
	})
	eventually(t, l.connected, "subscribed to what is allowed")
	require.Contains(t, l.link.state().detail(time.Now(), time.Hour), "forbids this bridge to subscribe to daemon:events:*: ")
	require.True(t, l.mute())
	publish(t, admin, "daemon:events", "1")
	publish(t, admin, "daemon:d:events", "2")
	eventually(t, func() bool { return l.in.len() == 2 }, "both are heard")

	acl("&daemon:events:*", "&daemon:canary:*")
	eventually(t, func() bool { return l.link.state().unheard.len() == 0 && !l.mute() }, "what is allowed later is heard")
	publish(t, admin, "daemon:events:acme", "3")
	eventually(t, func() bool { return l.in.len() == 3 }, "heard")
	require.Zero(t, testutil.ToFloat64(l.metrics.gaps))
	acl("resetchannels", "&daemon:*:events")
	require.NoError(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
	eventually(t, func() bool { return l.link.state().unheard.len() == 2 }, "what is forbidden later is left out")
	eventually(t, l.connected, "subscribed to the rest")
}

// The default patterns match what is not an event, too.
func TestNoticesOfHeartbeatsAreNoEvents(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	l := listen(t, redisConfig(server.URL()), func(*timing) {})
	eventually(t, l.connected, "subscribed")
	publish(t, server.Client(), "daemon:heartbeats:events", "not an event")
	publish(t, server.Client(), "daemon:d:events", "an event")
	eventually(t, func() bool { return l.in.len() > 0 }, "heard")
	require.Equal(t, 1, l.in.len())
}

// TestRefusedSubscriptionIsTriedAgain: Redis answers, and will not let us hear.
func TestRefusedSubscriptionIsTriedAgain(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	client := server.Client()
	acl := func(rule string) {
		require.NoError(t, client.Do(t.Context(), "ACL", "SETUSER", "bridge", "on", ">pw", "+@all", "~*", rule).Err())
	}
	acl("resetchannels")
	l := listen(t, redisConfig("redis://bridge:pw@"+server.Addr()), func(timing *timing) {
		timing.retry = backoff{first: time.Millisecond, most: 10 * time.Millisecond}
	})
	eventually(t, func() bool { return strings.Contains(l.link.state().problem, "NOPERM") }, "the refusal is known")
	require.True(t, l.link.state().answers)
	acl("&daemon:*")
	eventually(t, l.connected, "subscribed once allowed")
}
