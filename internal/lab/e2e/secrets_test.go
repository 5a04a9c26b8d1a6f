package e2e_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// vault is the files that the nodes read their secrets from when they start.
type vault struct {
	t   *testing.T
	dir string
}

// kept are the secrets in the vault; the cluster gives none of them itself.
var kept = []string{"GOSSIP_KEYS", "DAEMON_JWT_SECRET", "DAEMON_JWT_SECRET_PREVIOUS", "NATS_URL", "REDIS_URL", "DATABASE_URL"}

func (v vault) file(secret string) string { return filepath.Join(v.dir, secret) }

// put writes a secret, or a list of them.
func (v vault) put(secret string, values ...string) {
	v.t.Helper()
	require.NoError(v.t, os.WriteFile(v.file(secret), []byte(strings.Join(values, "\n")+"\n"), 0o600))
}

func (v vault) settings() map[string]string {
	all := make(map[string]string)
	for _, secret := range kept {
		all[secret], all[secret+"_FILE"] = "", v.file(secret)
	}
	return all
}

// servers are those that know the gateway by name and password. Each is told to
// accept a second one beside the first, and later to forget the first.
type servers struct {
	w        *world
	dir      string
	conf     []byte // of NATS, without users
	database *testserver.PostgresServer
	redis    *redis.Client
}

// userNATS tells NATS which of the gateway's users there are. The test itself
// needs none.
func (s *servers) userNATS(names ...string) {
	s.w.t.Helper()
	users := []string{"{user: test}"}
	for _, name := range names {
		users = append(users, fmt.Sprintf("{user: gateway-%s, password: password-%s}", name, name))
	}
	text := fmt.Sprintf("%s\nno_auth_user: test\nauthorization { users: [ %s ] }\n", s.conf, strings.Join(users, ", "))
	require.NoError(s.w.t, os.WriteFile(filepath.Join(s.dir, "nats-1.conf"), []byte(text), 0o600))
	if !s.w.NATS[0].Running() {
		return
	}
	// As "nats-server --signal reload" does.
	require.NoError(s.w.t, s.w.NATS[0].Signal(syscall.SIGHUP))
	for _, name := range []string{"old", "new"} {
		s.w.eventually(func() bool {
			nc, err := nats.Connect(s.natsURL(name))
			if err == nil {
				nc.Close()
			}
			return (err == nil) == slices.Contains(names, name)
		}, "NATS still treats gateway-%s as before", name)
	}
}

func (s *servers) natsURL(name string) string {
	return fmt.Sprintf("nats://gateway-%s:password-%s@%s", name, name, s.w.NATS[0].Addr)
}

// userRedis changes the passwords of the bridges' user, which has the rights
// that docs/operations.md gives it.
func (s *servers) userRedis(rules ...string) {
	s.w.t.Helper()
	rights := "on ~daemon:session:* ~daemon:heartbeat:* ~daemon:metrics:* ~daemon:events:* ~daemon:tokens:revoked " +
		"&daemon:* &daemon:*:events " +
		"+subscribe +psubscribe +unsubscribe +punsubscribe +ping +publish +get +set +lpush +ltrim +expire +scan +lrange +lrem +sscan"
	args := []any{"ACL", "SETUSER", "bridge"}
	for _, rule := range append(strings.Fields(rights), rules...) {
		args = append(args, rule)
	}
	require.NoError(s.w.t, s.redis.Do(s.w.ctx, args...).Err())
}

func (s *servers) redisURL(name string) string {
	return fmt.Sprintf("redis://bridge:password-%s@%s", name, s.w.Redis.Addr)
}

// userPostgres makes a role that logs in and then acts as the role owner, to
// which all belongs.
func (s *servers) userPostgres(name string) {
	s.w.t.Helper()
	s.database.Execute(s.w.t, fmt.Sprintf(`create role gateway_%[1]s login in role owner; alter role gateway_%[1]s set role = 'owner'`, name))
}

func (s *servers) databaseURL(name string) string {
	u, err := url.Parse(s.database.URL())
	require.NoError(s.w.t, err)
	u.User = url.User("gateway_" + name)
	return u.String()
}

// forget ends the old users. NATS and PostgreSQL also close what they are still
// connected with; Redis believes whom it has believed.
func (s *servers) forget() {
	s.w.t.Helper()
	s.userNATS("new")
	s.userRedis("<password-old")
	former := redis.NewClient(&redis.Options{Addr: s.w.Redis.Addr, Username: "bridge", Password: "password-old"})
	require.ErrorContains(s.w.t, former.Ping(s.w.ctx).Err(), "WRONGPASS")
	require.NoError(s.w.t, former.Close())
	s.database.Execute(s.w.t, `alter role gateway_old nologin; select pg_terminate_backend(pid) from pg_stat_activity where usename = 'gateway_old'`)
	_, err := pgx.Connect(s.w.ctx, s.databaseURL("old"))
	require.ErrorContains(s.w.t, err, "not permitted to log in")
}

// roll restarts nodes, one after the other, under load. None is left out by the
// others at any step, or takes them for strangers.
func (p *population) roll(nodes []*cluster.Node) {
	p.w.t.Helper()
	for _, n := range nodes {
		require.NoError(p.w.t, n.Stop(p.w.ctx))
		require.NoError(p.w.t, n.Start())
		require.NoError(p.w.t, p.w.AwaitReady(p.w.ctx))
		p.publish(100)
	}
}

// Reports: nextcloud/whiteboard#1316, warmbly/warmbly#454.
func TestEverySecretIsChangedWhileEventsFlow(t *testing.T) {
	t.Parallel()
	const oldJWT, newJWT = "the old secret of thirty-two bytes or more", "the new secret of thirty-two bytes or more"
	key := func(letter string) string {
		return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32)))
	}
	oldKey, newKey := key("o"), key("n")

	v := vault{t: t, dir: t.TempDir()}
	w := newWorld(t, func(cfg *cluster.Config) {
		cfg.Edges, cfg.Settings = 2, v.settings()
		cfg.Settings["DRAIN_PERIOD"], cfg.Settings["BALANCE_RATE"] = "1s", "0"
		cfg.Settings["LOG_LEVEL"] = "debug" // all that there is to be said
	})
	const orchestrators = 30
	s := &servers{w: w, dir: w.Dir, database: neolithFor(t, orchestrators), redis: redis.NewClient(&redis.Options{Addr: w.Redis.Addr})}
	t.Cleanup(func() { _ = s.redis.Close() })
	var err error
	s.conf, err = os.ReadFile(filepath.Join(w.Dir, "nats-1.conf"))
	require.NoError(t, err)
	s.userNATS("old")
	require.NoError(t, w.StartServers(w.ctx))
	s.userRedis(">password-old")
	s.userPostgres("old")
	v.put("GOSSIP_KEYS", oldKey)
	v.put("DAEMON_JWT_SECRET", oldJWT)
	v.put("DAEMON_JWT_SECRET_PREVIOUS")
	v.put("NATS_URL", s.natsURL("old"))
	v.put("REDIS_URL", s.redisURL("old"))
	v.put("DATABASE_URL", s.databaseURL("old"))
	require.NoError(t, w.Start(w.ctx))
	w.connect()
	p := w.populate(orchestrators)
	p.sign(oldJWT)
	w.enter(p.everybody()...)
	p.load()
	p.publish(200)
	gossiping := slices.Concat(w.Routers, w.Edges)

	// Each server accepts both; every node is given the new one.
	s.userNATS("old", "new")
	s.userRedis(">password-new")
	s.userPostgres("new")
	v.put("NATS_URL", s.natsURL("new"))
	v.put("REDIS_URL", s.redisURL("new"))
	v.put("DATABASE_URL", s.databaseURL("new"))
	v.put("DAEMON_JWT_SECRET", newJWT)
	v.put("DAEMON_JWT_SECRET_PREVIOUS", oldJWT)
	v.put("GOSSIP_KEYS", oldKey, newKey)
	p.roll(w.Nodes())
	s.forget()

	// Neolith issues new tokens, while others still have old ones.
	p.sign(newJWT)
	renewed, others := p.everybody()[:20], p.everybody()[20:]
	w.leave(renewed...)
	w.enter(renewed...)
	v.put("GOSSIP_KEYS", newKey, oldKey)
	p.roll(gossiping)

	// The old ones have expired, and every node encrypts with the new key.
	w.leave(others...)
	w.enter(others...)
	v.put("DAEMON_JWT_SECRET_PREVIOUS")
	v.put("GOSSIP_KEYS", newKey)
	p.roll(gossiping)

	p.endLoad()
	p.settle(ledger.Promise{})
	p.judge(ledger.Promise{})
	require.NoError(t, w.AwaitReady(w.ctx))
	for _, n := range w.Nodes() {
		require.NoError(t, n.AwaitMetric(w.ctx, "gateway_postgres_schema_ready", 1), "%s can use the database", n.Name())
	}
	requireDiscreet(w, oldJWT, newJWT, oldKey, newKey, "password-old", "password-new")
}

// accessToken is how every JSON Web Token begins: with {" in base64.
const accessToken = "eyJ"

// requireDiscreet reads all that the nodes have written, in all their lives, for
// secrets and tokens.
func requireDiscreet(w *world, secrets ...string) {
	w.t.Helper()
	for _, n := range w.Nodes() {
		text, err := os.ReadFile(filepath.Join(w.Dir, n.Name()+".log"))
		require.NoError(w.t, err)
		require.Greater(w.t, len(text), 1000, n.Name())
		for _, secret := range append(secrets, accessToken) {
			at := strings.Index(string(text), secret)
			require.Negative(w.t, at, "%s has written a secret or a token at byte %d", n.Name(), at)
		}
	}
}

// neolithFor is a database that knows orchestrators, and a role owner with the
// rights that the gateway needs.
func neolithFor(t *testing.T, orchestrators int) *testserver.PostgresServer {
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	var all []testserver.Orchestrator
	for i := range orchestrators {
		all = append(all, testserver.Orchestrator{ID: string(numbered(i)), User: fmt.Sprintf("user_%d", i)})
	}
	database.AddOrchestrators(t, all...)
	database.Execute(t, `create role owner;
		create schema daemon_gateway authorization owner;
		grant select on vps to owner;
		grant update (status, updated_at) on vps to owner`)
	return database
}

// sign has the daemons that start from now on bring tokens signed with a secret.
func (p *population) sign(secret settings.Secret) {
	for _, s := range p.everybody() {
		s.Profile.Secret = secret
	}
}
