package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// backend does what Neolith's routes do, in its database and its Redis.
type backend struct {
	w        *world
	database *pgx.Conn
	redis    *redis.Client
	logins   int
	events   int
}

// login is POST /api/daemon/auth: an orchestrator that is OFFLINE is disabled.
func (n *backend) login(orchestrator string) (daemon, token string, status int) {
	n.w.t.Helper()
	if n.status(orchestrator) == "OFFLINE" {
		return "", "", 403
	}
	n.logins++
	daemon = fmt.Sprintf("daemon_session_%s_%d", orchestrator, time.Now().UnixMilli()+int64(n.logins))
	token, err := auth.Mint(cluster.Secret, auth.Grant{
		Orchestrator: protocol.OrchestratorID(orchestrator), Daemon: protocol.DaemonID(daemon), Scopes: []string{}, ExpiresAt: time.Now().Add(time.Hour),
	})
	require.NoError(n.w.t, err)
	session := fmt.Sprintf(`{"daemonId":%q,"orchestratorId":%q,"scopes":[],"lastHeartbeat":"2026-11-22T10:00:00.000Z"}`, daemon, orchestrator)
	require.NoError(n.w.t, n.redis.Set(n.w.ctx, "daemon:session:"+daemon, session, time.Hour).Err())
	return daemon, token, 200
}

func (n *backend) status(orchestrator string) (status string) {
	n.w.t.Helper()
	require.NoError(n.w.t, n.database.QueryRow(n.w.ctx, `select status::text from vps where id = $1`, orchestrator).Scan(&status))
	return status
}

// event is what its code publishes, and the event's id.
func (n *backend) event(orchestrator, daemon string) (text, id string) {
	n.events++
	id = fmt.Sprintf("event_1732291200000_%d", n.events)
	return fmt.Sprintf(`{"id":%q,"type":"message.received","daemonId":%q,"orchestratorId":%q,"payload":{"messageId":"m%d","timestamp":"2026-11-22T10:00:00.000Z"},`+
		`"timestamp":"2026-11-22T10:00:00.000Z","channelId":"channel-7","requiresAck":true,"priority":1}`, id, daemon, orchestrator, n.events), id
}

func (n *backend) publish(channel, orchestrator, daemon string) (id string) {
	n.w.t.Helper()
	text, id := n.event(orchestrator, daemon)
	require.NoError(n.w.t, n.redis.Publish(n.w.ctx, channel, text).Err())
	return id
}

func (n *backend) push(list, text string) {
	n.w.t.Helper()
	require.NoError(n.w.t, n.redis.LPush(n.w.ctx, list, text).Err())
	require.NoError(n.w.t, n.redis.LTrim(n.w.ctx, list, 0, 999).Err())
}

// route is the message router, by itself and with a presence service: it publishes
// for those whom it takes for connected, and keeps the message for the others.
func (n *backend) route(orchestrator string) (id, way string) {
	n.w.t.Helper()
	var session struct{ DaemonID, SessionID, Status, ConnectedAt, LastHeartbeatAt string }
	held, err := n.redis.Get(n.w.ctx, "routing:session:"+orchestrator).Bytes()
	if err == nil {
		require.NoError(n.w.t, json.Unmarshal(held, &session))
	}
	presence := n.redis.HGetAll(n.w.ctx, "presence:vp:"+orchestrator).Val()
	online := n.redis.Exists(n.w.ctx, "presence:heartbeat:vp:"+orchestrator).Val() == 1 && presence["status"] == "ONLINE"
	if session.Status != "active" || !online {
		n.events++
		message := fmt.Sprint("m", n.events)
		require.NoError(n.w.t, n.redis.RPush(n.w.ctx, "routing:queue:"+orchestrator, fmt.Sprintf(
			`{"messageId":%q,"channelId":"channel-7","authorId":"a","content":"c","createdAt":"2026-11-22T10:00:00.000Z","queuedAt":"2026-11-22T10:00:00.000Z"}`,
			message)).Err())
		return "queued_" + message, "queued"
	}
	text, id := n.event("channel-7", session.DaemonID)
	n.push("daemon:events:"+session.DaemonID, text)
	require.NoError(n.w.t, n.redis.Publish(n.w.ctx, "daemon:"+session.DaemonID+":events", text).Err())
	return id, "published"
}

// plainDaemon speaks the protocol as the integration guide's client does, and
// keeps the ids of the events that it has received.
type plainDaemon struct {
	w        *world
	conn     *websocket.Conn
	received []string
}

func (w *world) plainDaemon(url, orchestrator, daemon, token string) *plainDaemon {
	w.t.Helper()
	conn, _, err := websocket.Dial(w.ctx, url, nil)
	require.NoError(w.t, err)
	conn.SetReadLimit(1 << 20)
	w.t.Cleanup(func() { _ = conn.CloseNow() })
	d := &plainDaemon{w: w, conn: conn}
	d.say("auth", fmt.Sprintf(`{"accessToken":%q,"daemonId":%q,"orchestratorId":%q}`, token, daemon, orchestrator))
	d.hear("auth_success")
	d.say("subscribe", `{"eventTypes":["message.*"]}`)
	return d
}

func (d *plainDaemon) say(kind, payload string) {
	d.w.t.Helper()
	text := fmt.Sprintf(`{"type":%q,"id":"m","timestamp":"2026-11-22T10:00:00.000Z","payload":%s}`, kind, payload)
	require.NoError(d.w.t, d.conn.Write(d.w.ctx, websocket.MessageText, []byte(text)))
}

// hear reads until a message of this type, and acknowledges events meanwhile.
func (d *plainDaemon) hear(kind string) {
	d.w.t.Helper()
	for {
		_, text, err := d.conn.Read(d.w.ctx)
		require.NoError(d.w.t, err)
		var m struct {
			Type    string
			Payload struct{ EventID string }
		}
		require.NoError(d.w.t, json.Unmarshal(text, &m))
		require.NotContains(d.w.t, []string{"error", "auth_error", "rate_limit"}, m.Type, "%s", text)
		if m.Type == "event" {
			d.received = append(d.received, m.Payload.EventID)
			d.say("ack", fmt.Sprintf(`{"eventIds":[%q]}`, m.Payload.EventID))
		}
		if m.Type == kind {
			return
		}
	}
}

func (d *plainDaemon) receives(ids ...string) {
	d.w.t.Helper()
	for _, id := range ids {
		for !slices.Contains(d.received, id) {
			d.hear("event")
		}
	}
}

func (d *plainDaemon) leave() {
	d.w.t.Helper()
	require.NoError(d.w.t, d.conn.Close(websocket.StatusNormalClosure, ""))
}

// TestDayOne moves a daemon of a live Neolith over to the gateway and back, with
// each of the code paths that Neolith has for it, and one line for each step.
func TestDayOne(t *testing.T) {
	t.Parallel()
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	for id, user := range map[string]string{"vp": "user", "disabled": "user-2", "other": "user-3"} {
		database.AddOrchestrators(t, testserver.Orchestrator{ID: id, User: user, Organization: "org"})
	}
	database.Execute(t, `update vps set status = 'OFFLINE' where id = 'disabled'`)
	w := startWorld(t, with(map[string]string{
		"DATABASE_URL": database.URL(), "PRESENCE_GRACE": "1s", "REDIS_DRAIN_LISTS": "true",
	}))
	n := &backend{w: w, database: database.Connect(t), redis: redis.NewClient(&redis.Options{Addr: w.Redis.Addr})}
	t.Cleanup(func() { _ = n.redis.Close() })
	url := w.Edges[0].URL
	becomes := func(orchestrator, status string) {
		w.eventually(func() bool { return n.status(orchestrator) == status }, "vps.status of %s never becomes %s", orchestrator, status)
	}
	became := func(status string) { becomes("vp", status) }

	_, _, status := n.login("disabled")
	require.Equal(t, 403, status)
	t.Log("a disabled orchestrator: the login route answers 403, and the gateway leaves it OFFLINE")

	before, way := n.route("vp")
	require.Equal(t, "queued", way)
	t.Log("before the daemon comes: Neolith's router puts a message into routing:queue:vp")

	daemon, token, status := n.login("vp")
	require.Equal(t, 200, status)
	t.Log("logged in at Neolith's route: 200")

	d := w.plainDaemon(url, "vp", daemon, token)
	d.receives(before)
	t.Log("connected and subscribed at the gateway: the message out of routing:queue:vp is there")

	became("ONLINE")
	t.Log("vps.status is ONLINE")

	w.eventually(func() bool { return n.redis.Exists(w.ctx, "presence:heartbeat:vp:vp").Val() == 1 }, "the router does not see the daemon")
	routed, way := n.route("vp")
	require.Equal(t, "published", way)
	d.receives(routed)
	t.Log("Neolith's router sees the daemon, publishes on daemon:<daemonId>:events, and the event arrives")

	d.receives(n.publish("daemon:events", "vp", ""))
	t.Log("daemon:events, by the orchestrator's id: arrives")
	d.receives(n.publish("daemon:events", "user", ""))
	t.Log("daemon:events, by its user's id: arrives")
	d.receives(n.publish("daemon:events:org", "vp", ""))
	t.Log("daemon:events:<organizationId>: arrives")

	text, pushed := n.event("channel-7", daemon)
	n.push("daemon:events:"+daemon, text)
	d.receives(pushed)
	t.Log("only pushed onto daemon:events:<daemonId>, with a channel for an orchestrator: arrives")
	n.push("daemon:events:vp", `{"id":"pending","type":"message.received","payload":{"messageId":"m"},"createdAt":"2026-11-22T10:00:00.000Z"}`)
	d.receives("pending")
	t.Log("only pushed onto daemon:events:<orchestratorId>, a pending event without an orchestrator: arrives")
	w.eventually(func() bool { return n.redis.Exists(w.ctx, "daemon:events:vp").Val() == 0 }, "the list is not emptied")
	text, sorted := n.event("vp", "")
	require.NoError(t, n.redis.ZAdd(w.ctx, "daemon:events:vp", redis.Z{Score: 1, Member: text}).Err())
	d.receives(sorted)
	t.Log("kept in a sorted set of that name: arrives")

	monitoring := n.redis.Subscribe(w.ctx, "daemon:heartbeats:org")
	t.Cleanup(func() { _ = monitoring.Close() })
	_, err := monitoring.Receive(w.ctx)
	require.NoError(t, err)
	d.say("heartbeat", `{"status":"busy","metrics":{"errors":3,"lastMessageAt":"2026-11-22T10:00:00.000Z","custom":{"queue":{"depth":[1,2]}},"healthy":true}}`)
	d.hear("heartbeat_ack")
	w.eventually(func() bool { return n.redis.LLen(w.ctx, "daemon:metrics:vp").Val() == 1 }, "no metrics")
	var metrics map[string]any
	require.NoError(t, json.Unmarshal([]byte(n.redis.LIndex(w.ctx, "daemon:metrics:vp", 0).Val()), &metrics))
	require.Equal(t, "2026-11-22T10:00:00.000Z", metrics["lastMessageAt"])
	require.Equal(t, map[string]any{"queue": map[string]any{"depth": []any{1.0, 2.0}}}, metrics["custom"])
	require.NotEmpty(t, metrics["timestamp"])
	t.Log("a heartbeat with a date and nested metrics: daemon:metrics:vp has them, as they were and with a timestamp")
	notice, err := monitoring.ReceiveMessage(w.ctx)
	require.NoError(t, err)
	var heard struct{ Type, OrchestratorID, Status string }
	require.NoError(t, json.Unmarshal([]byte(notice.Payload), &heard))
	require.Equal(t, struct{ Type, OrchestratorID, Status string }{"heartbeat", "vp", "busy"}, heard)
	t.Log("daemon:heartbeats:org says it to the live monitoring")
	var health struct{ DaemonID, Status, ReceivedAt string }
	require.NoError(t, json.Unmarshal([]byte(n.redis.Get(w.ctx, "daemon:heartbeat:vp").Val()), &health))
	require.Equal(t, []string{daemon, "busy"}, []string{health.DaemonID, health.Status})
	t.Log("daemon:heartbeat:vp says it to the health page")
	became("BUSY")
	t.Log("vps.status is BUSY")
	w.eventually(func() bool {
		var session struct{ LastHeartbeat time.Time }
		err := json.Unmarshal([]byte(n.redis.Get(w.ctx, "daemon:session:"+daemon).Val()), &session)
		return err == nil && time.Since(session.LastHeartbeat) < 24*time.Hour
	}, "lastHeartbeat of the session stands still")
	t.Log("lastHeartbeat of daemon:session:<daemonId> moves on")
	routed, way = n.route("vp")
	require.Equal(t, "published", way)
	d.receives(routed)
	t.Log("the daemon is busy: to Neolith's router it is connected all the same")

	d.leave()
	became("AWAY")
	missed := n.publish("daemon:events", "vp", "")
	t.Log("disconnected: vps.status is AWAY, not OFFLINE")

	again, token, status := n.login("vp")
	require.Equal(t, 200, status)
	d = w.plainDaemon(url, "vp", again, token)
	d.receives(missed)
	became("ONLINE")
	t.Log("logged in again: 200; what was published meanwhile arrives, vps.status is ONLINE")

	d.leave()
	became("AWAY")
	_, _, status = n.login("vp")
	require.Equal(t, 200, status)
	database.Execute(t, `update vps set status = 'ONLINE' where id = 'vp'`)
	missed = n.publish("daemon:events", "vp", "")
	otherDaemon, otherToken, status := n.login("other")
	require.Equal(t, 200, status)
	w.plainDaemon(url, "other", otherDaemon, otherToken)
	becomes("other", "ONLINE") // so that the gateway has written since
	require.Equal(t, "ONLINE", n.status("vp"))
	t.Log("switched back: the login route answers 200, and what the other server says of the daemon stays")

	back, token, _ := n.login("vp")
	d = w.plainDaemon(url, "vp", back, token)
	d.receives(missed)
	require.Equal(t, "OFFLINE", n.status("disabled"))
	t.Log("and over again: what the gateway heard meanwhile arrives")
}
