package bridge

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func (b *bridge) gaps() float64 { return testutil.ToFloat64(b.metrics.gaps) }

// TestFailover: the master dies, Sentinels choose another, and both bridges
// find it and say what they have missed.
// Reports: ortoo/node-redis-sentinel#26, ledgetech/lua-resty-redis-connector#35,
// redis/go-redis#3164, flyerhzm/redis-sentinel#5.
func TestFailover(t *testing.T) {
	t.Parallel()
	sentinel := testserver.Sentinel(t, 2, "--replica-serve-stale-data", "no")
	s := &site{t: t, nats: testserver.NATS(t), redis: sentinel.Nodes[0]}
	cfg := s.config()
	cfg.Redis.RedisURL = "redis://127.0.0.1:1" // its host is not used
	cfg.Redis.RedisAddrs, cfg.Redis.RedisMasterName = sentinel.Addrs(), testserver.SentinelMaster
	a, b := s.start(cfg).ready(), s.start(cfg).ready()
	publish(t, sentinel.Nodes[0].Client(), "daemon:events", eventJSON("vp", 0))
	a.settled(1)
	b.settled(1)

	sentinel.Nodes[0].Kill()
	asked := sentinel.Sentinels[0]
	eventually(t, func() bool { return sentinel.Master(asked) != sentinel.Nodes[0] }, "the Sentinels choose another master")
	for _, bridge := range []*bridge{a, b} {
		eventually(t, func() bool { return bridge.gaps() > 0 && bridge.link.state().connected }, "the bridge follows")
		ready, detail := bridge.checkRedis()
		require.True(t, ready)
		require.Contains(t, detail, "last gap from ")
		require.Positive(t, bridge.link.disconnected(time.Now()))
	}
	publish(t, sentinel.Master(asked).Client(), "daemon:events", eventJSON("vp", 1))
	a.settled(2)
	b.settled(2)
	require.Equal(t, eventIDs("vp", 0, 2), ids(s.stored(cfg.Log.Partitions)["vp"]))
}

// TestFailoverFromAMachineThatIsGone: with the master goes the Sentinel that the
// bridge has asked so far, and neither closes a connection. The bridge must not
// wait for that Sentinel for ever.
// Reports: redis/go-redis#3811.
func TestFailoverFromAMachineThatIsGone(t *testing.T) {
	t.Parallel()
	sentinel := testserver.Sentinel(t, 1)
	cfg := redisConfig("redis://127.0.0.1:1")
	cfg.RedisAddrs, cfg.RedisMasterName = sentinel.Addrs()[:1], testserver.SentinelMaster
	l := listen(t, cfg, func(timing *timing) { timing.look, timing.ping, timing.dead = 50*time.Millisecond, 1, 20 })
	eventually(t, l.connected, "subscribed")
	sentinel.Sentinels[0].Pause()
	sentinel.Nodes[0].Pause()
	client := sentinel.Nodes[1].Client()
	eventually(t, func() bool {
		subscribers, err := client.PubSubNumSub(t.Context(), "daemon:events").Result()
		return err == nil && subscribers["daemon:events"] == 1
	}, "the bridge finds the new master")
	eventually(t, func() bool {
		publish(t, client, "daemon:events", "x")
		return l.in.len() > 0
	}, "the new master's messages are heard")
	eventually(t, func() bool { return testutil.ToFloat64(l.metrics.gaps) > 0 }, "the gap is counted")
}

// TestHalfOpenConnectionIsNoticed: the network swallows everything, so that only
// silence tells.
// Reports: redis/go-redis#181, redis/redis#3559.
func TestHalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	network := testserver.RedisProxy(t, server)
	const look, dead = 50 * time.Millisecond, 20
	began := time.Now()
	l := listen(t, redisConfig(network.URL()), func(timing *timing) { timing.look, timing.ping, timing.dead = look, 1, dead })
	eventually(t, l.connected, "subscribed")
	network.Freeze()
	eventually(t, func() bool { return !l.connected() && strings.Count(l.log.String(), errDead.Error()) > 0 }, "the silence is noticed")
	noticed, tries := time.Now(), strings.Count(l.log.String(), "not subscribed on Redis")
	eventually(t, func() bool { return strings.Count(l.log.String(), "not subscribed on Redis") > tries+1 }, "new connections lead nowhere, and it goes on trying")
	lost, gaps := l.link.state().since, testutil.ToFloat64(l.metrics.gaps)
	require.False(t, lost.After(noticed.Add(-dead*look)), "since Redis was heard last, and not since that was noticed")
	require.False(t, lost.Before(began), "nor before")

	healed := time.Now()
	network.Heal()
	eventually(t, func() bool { return l.connected() && testutil.ToFloat64(l.metrics.gaps) > gaps }, "subscribed again")
	require.True(t, l.link.state().gap.to.After(healed), "until the subscription was there again")
	require.GreaterOrEqual(t, l.link.disconnected(time.Now()), healed.Sub(lost), "gateway_bridge_disconnected_seconds_total has it")
	client := server.Client()
	eventually(t, func() bool {
		publish(t, client, "daemon:events", "x")
		return l.in.len() > 0
	}, "messages are heard")
}

// Redis answers, and can do nothing but pass on what is published: what needs no
// answer of it goes on, the rest waits, and nothing is lost or refused.
// Reports: redis/ioredis#358, redis/go-redis#1131, redis/redis#9913.
func TestWhatNeedsARedisThatLoadsItsDataWaits(t *testing.T) {
	t.Parallel()
	server, outage := loading(t)
	s := &site{t: t, nats: testserver.NATS(t), redis: server}
	client := s.publisher()
	cfg := s.config()
	b := s.start(cfg).ready()
	require.NoError(t, client.Set(t.Context(), "daemon:session:d1", `{"orchestratorId":"vp"}`, 0).Err())
	outage.begin()
	eventually(t, func() bool { return !b.link.state().works() }, "it is noticed")
	publish(t, client, "daemon:d1:events", eventJSON("channel", 0))
	publish(t, client, "daemon:events", eventJSON("other", 0))
	eventually(t, func() bool { return len(s.stored(cfg.Log.Partitions)["other"]) == 1 }, "what needs no answer goes on")
	ready, detail := b.checkRedis()
	require.True(t, ready, "it hears")
	require.Contains(t, detail, "LOADING")
	require.Equal(t, 1, b.pump.depth(), "the other waits")
	outage.end()
	b.settled(2)
	require.Equal(t, map[string]int{"vp": 1, "other": 1}, counts(s.stored(cfg.Log.Partitions)))
	require.Empty(t, s.deadLetters())
	require.Zero(t, b.gaps())
}

// TestOneBridgeCutOffLosesNothing: nothing in one bridge depends on the other,
// so that what one cannot hear the other stores.
func TestOneBridgeCutOffLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	networks := []*testserver.Proxy{testserver.RedisProxy(t, s.redis), testserver.RedisProxy(t, s.redis)}
	var bridges []*bridge
	for _, network := range networks {
		cfg.Redis.RedisURL = settings.URL(network.URL())
		bridges = append(bridges, s.start(cfg).ready())
	}
	client, total := s.publisher(), 0
	for round := range 4 {
		away, there := round%2, 1-round%2
		gaps := bridges[there].gaps()
		networks[away].Cut()
		eventually(t, func() bool { return !bridges[away].link.state().connected }, "one is cut off")
		require.False(t, first(bridges[away].checkRedis()))
		publish(t, client, "daemon:events", eventJSON("vp", total))
		total++
		eventually(t, func() bool { return len(s.stored(cfg.Log.Partitions)["vp"]) == total }, "the other stores it")
		networks[away].Heal()
		eventually(t, func() bool {
			return bridges[away].link.state().connected && bridges[away].gaps() == float64(round/2+1)
		}, "it comes back, and has counted the gap")
		require.Equal(t, gaps, bridges[there].gaps(), "the other has noticed nothing")
	}
	require.Equal(t, eventIDs("vp", 0, total), ids(s.stored(cfg.Log.Partitions)["vp"]))
	require.EqualValues(t, 2, bridges[0].gaps())
	require.EqualValues(t, 2, bridges[1].gaps())
}

func first(ready bool, _ string) bool { return ready }

// TestReconnectsAreSpread: bridges that lose Redis at the same moment do not come
// back in step, and a long outage is not answered with ever more attempts.
// Reports: mattermost/mattermost-webapp#10960.
func TestReconnectsAreSpread(t *testing.T) {
	t.Parallel()
	b := defaultTiming.retry
	for n := 1; n <= 100; n++ {
		full := min(b.most, b.first<<min(n-1, 20))
		seen := map[time.Duration]bool{}
		for range 50 {
			delay := b.delay(n)
			require.GreaterOrEqual(t, delay, full/2)
			require.LessOrEqual(t, delay, full)
			seen[delay] = true
		}
		require.Greater(t, len(seen), 1, "jitter")
	}
}

func TestReadinessTellsTheStoryOfTheSubscription(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	l := newLink(at(0))
	detail := func(seconds int) string { return l.state().detail(at(seconds), 5*time.Minute) }
	require.Equal(t, "not connected yet; not subscribed since 1970-01-01T00:00:00Z", detail(1))
	l.heard(at(2), false)
	l.up(at(2))
	require.Equal(t, "subscribed, no message heard yet", detail(3))
	require.Equal(t, "subscribed, but nothing is published there for 6m58s; check REDIS_CHANNELS and REDIS_PATTERNS", detail(420))
	l.heard(at(430), true)
	require.Equal(t, "subscribed, last message at 1970-01-01T00:07:10Z", detail(431))
	l.down(at(445), true, false, "no answer to pings")
	require.Equal(t, "no answer to pings; not subscribed since 1970-01-01T00:07:10Z", detail(446), "it was dead since it was last heard")
	l.heard(at(450), false)
	l.up(at(450))
	require.Equal(t, "subscribed, last message at 1970-01-01T00:07:10Z; last gap from 1970-01-01T00:07:10Z for 20s", detail(451))
	l.down(at(500), false, false, "EOF")
	require.True(t, strings.HasSuffix(detail(501), "last gap from 1970-01-01T00:07:10Z for 20s"), "the present one is not over")
	require.Equal(t, 2*time.Second+20*time.Second+10*time.Second, l.disconnected(at(510)))
}

// documentedUser is the command of docs/operations.md that makes the bridge's user
// in Redis, which is to have nothing else.
func documentedUser(t *testing.T) (command []any) {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	const begin = "ACL SETUSER bridge on "
	_, text, found := strings.Cut(string(page), begin)
	require.True(t, found)
	text, _, found = strings.Cut(text, "```")
	require.True(t, found)
	for _, word := range strings.Fields(begin + "resetkeys resetchannels -@all " + text) {
		command = append(command, word)
	}
	return command
}

// Reports: redis/go-redis#2910, #3462.
func TestDocumentedPermissionsOnRedisAreEnough(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.publisher()
	require.NoError(t, admin.Do(t.Context(), documentedUser(t)...).Err())
	require.NoError(t, admin.Set(t.Context(), "daemon:session:d1", `{"orchestratorId":"vp"}`, 0).Err())
	push(t, admin, "d1", eventJSON("channel", 0))
	cfg := s.draining()
	cfg.Redis.RedisURL = settings.URL("redis://bridge:password@" + s.redis.Addr())
	cfg.Redis.RedisPatterns = []string{"daemon:*:events"}
	a := s.start(cfg).ready()
	s.listeners(1)
	s.awaitEmpty("d1")
	publish(t, admin, "daemon:d1:events", eventJSON("channel", 1))
	a.settled(1)
	s.call("edge-1")
	eventually(t, func() bool { return a.canaries(statusSuccess) == 1 }, "the canary is stored")
	s.beat(admin, "vp")
	eventually(t, func() bool { ok, _ := a.revoked.check(); return ok }, "what is revoked is read")
	require.NoError(t, a.wait())
	require.Equal(t, map[string]int{"vp": 2, "_canary_edge-1": 1}, counts(s.stored(cfg.Log.Partitions)))
}

// Regression: a bridge whose name of NATS led to another cluster within 2 s of its
// start stayed ready there.
func TestABridgeIsNotReadyWhereItsStreamsAreNot(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := eventlog.Open(t.Context(), s.nats.JetStream(), s.config().Log, discard, prometheus.NewRegistry())
	require.NoError(t, err)
	name := testserver.NATSProxy(t, s.nats)
	cfg := s.config()
	cfg.NATS.NATSURL = []settings.URL{settings.URL(name.URL())}
	cfg.Upkeep.ManageStreams = false
	b := s.start(cfg).ready()
	name.Lead(testserver.NATS(t))
	name.Cut()
	name.Heal()
	eventually(t, func() bool {
		_, waits := b.readyz()
		return strings.Contains(waits["nats"], "the gateway's streams are not there any more")
	}, "readiness tells")
}
