package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const patience = testserver.Patience

func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, patience, 20*time.Millisecond, what)
}

var discard = slog.New(slog.DiscardHandler)

// site is the servers that bridges stand between.
type site struct {
	t     *testing.T
	nats  *testserver.NATSServer
	redis *testserver.RedisServer
}

func newSite(t *testing.T) *site {
	return &site{t: t, nats: testserver.NATS(t), redis: testserver.Redis(t)}
}

// config is the production defaults, on the site's servers.
func (s *site) config() Config {
	cfg := settings.Default[Config]()
	cfg.Admin.AdminAddr = "127.0.0.1:0"
	cfg.NATS.NATSURL = []settings.URL{settings.URL(s.nats.ClientURL())}
	cfg.Redis.RedisURL = settings.URL(s.redis.URL())
	cfg.Log.Partitions = 4
	return cfg
}

// publisher is a Redis client that plays the backend.
func (s *site) publisher() *redis.Client { return s.redis.Client() }

// bridge is a running App.
type bridge struct {
	*App
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run, once done
	said *testserver.Journal
}

// start runs a bridge until the test ends.
func (s *site) start(cfg Config) *bridge {
	s.t.Helper()
	said := &testserver.Journal{}
	app, err := New(cfg, slog.New(slog.NewJSONHandler(said, nil)))
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	b := &bridge{App: app, t: s.t, stop: cancel, done: make(chan struct{}), said: said}
	go func() {
		defer close(b.done)
		b.err = app.Run(ctx)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-b.done
		if s.t.Failed() {
			s.t.Logf("a bridge counted\n%sand said\n%s", b.counted(), said.String())
		}
	})
	return b
}

// counted is what the bridge's metrics say that is not 0.
func (b *bridge) counted() string {
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	var text strings.Builder
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if value := m.GetCounter().GetValue() + m.GetGauge().GetValue(); value != 0 && strings.HasPrefix(family.GetName(), "gateway") {
				fmt.Fprintln(&text, family.GetName(), m.GetLabel(), value)
			}
		}
	}
	return text.String()
}

// ready waits until the bridge hears Redis and has opened the log.
func (b *bridge) ready() *bridge {
	b.t.Helper()
	var waits map[string]string
	defer func() {
		if b.t.Failed() {
			b.t.Log("waits for: ", waits)
		}
	}()
	eventually(b.t, func() (ok bool) {
		var code int
		code, waits = b.readyz()
		return code == http.StatusOK
	}, "the bridge is ready")
	return b
}

// wait ends the bridge and returns what Run returned.
func (b *bridge) wait() error {
	b.stop()
	<-b.done
	return b.err
}

// readyz returns the status and which checks are not ready.
func (b *bridge) readyz() (status int, waitsFor map[string]string) {
	b.t.Helper()
	answer, err := http.Get("http://" + b.AdminAddr().String() + "/readyz")
	require.NoError(b.t, err)
	defer func() { _ = answer.Body.Close() }()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(answer.Body)
	require.NoError(b.t, err)
	var body struct {
		Checks map[string]struct {
			Ready  bool
			Detail string
		}
	}
	require.NoError(b.t, json.Unmarshal(text, &body))
	waitsFor = map[string]string{}
	for name, c := range body.Checks {
		if !c.Ready {
			waitsFor[name] = c.Detail
		}
	}
	return answer.StatusCode, waitsFor
}

// settled waits until n messages have been heard and none is held any more.
func (b *bridge) settled(n int) {
	b.t.Helper()
	eventually(b.t, func() bool {
		done := b.intoLog() + testutil.ToFloat64(b.metrics.dropped)
		for _, r := range rejectReasons {
			done += testutil.ToFloat64(b.metrics.rejected.Of(r))
		}
		return int(done) >= n && b.pump.depth() == 0
	}, fmt.Sprintf("%d messages are settled", n))
}

// intoLog counts the messages that are in the log, also where the log was asked
// again because its answer came too late.
func (b *bridge) intoLog() float64 {
	return testutil.ToFloat64(b.metrics.published) + testutil.ToFloat64(b.metrics.duplicates)
}

// requireCounted checks a metric of events that bridges were the first to store.
// One whose answer came too late was stored, too, and is a duplicate when the log
// is asked again, by the pump or below it.
func requireCounted(t *testing.T, want float64, count func(*bridge) float64, bridges ...*bridge) {
	t.Helper()
	var counted float64
	eventually(t, func() bool {
		counted = 0
		var late float64
		for _, b := range bridges {
			counted += count(b)
			late += testutil.ToFloat64(b.metrics.duplicates)
		}
		return counted+late >= want
	}, "all are counted")
	require.LessOrEqual(t, counted, want)
}

// eventJSON is an event as the backend publishes it.
func eventJSON(orchestrator string, number int) string {
	return fmt.Sprintf(`{"id":"event_%s_%d","type":"message.received","daemonId":"","orchestratorId":%q,`+
		`"payload":{"n":%d},"timestamp":"2026-11-22T10:00:00.000Z","requiresAck":true}`, orchestrator, number, orchestrator, number)
}

// publish publishes JSON texts on a channel, in order.
func publish(t *testing.T, client redis.UniversalClient, channel string, bodies ...string) {
	t.Helper()
	pipe := client.Pipeline()
	for _, body := range bodies {
		pipe.Publish(t.Context(), channel, body)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
}

// connect returns a connection that the caller closes: what is asked until it is
// so would gather thousands of them, which is more work each time.
func (s *site) connect() jetstream.JetStream {
	s.t.Helper()
	return s.nats.JetStream()
}

// stored reads the whole log: the events of each orchestrator, in order.
func (s *site) stored(partitions int) map[string][]event.Event {
	s.t.Helper()
	js := s.connect()
	defer js.Conn().Close()
	events := map[string][]event.Event{}
	for p := range event.Partition(partitions) {
		for _, body := range messages(s.t, js, event.StreamName(p), event.Subject(p, event.SentinelToken)) {
			e, err := event.Parse(body, event.DefaultMaxBytes)
			require.NoError(s.t, err)
			events[string(e.OrchestratorID)] = append(events[string(e.OrchestratorID)], e)
		}
	}
	return events
}

// deadLetters reads all dead letters, oldest first.
func (s *site) deadLetters() []eventlog.DeadLetterRecord {
	s.t.Helper()
	var letters []eventlog.DeadLetterRecord
	js := s.connect()
	defer js.Conn().Close()
	for _, body := range messages(s.t, js, eventlog.DeadletterStream, "") {
		var letter eventlog.DeadLetterRecord
		require.NoError(s.t, json.Unmarshal(body, &letter))
		letters = append(letters, letter)
	}
	return letters
}

// messages reads a stream, but for what stands on one of its subjects.
func messages(t *testing.T, js jetstream.JetStream, name, except string) (bodies [][]byte) {
	t.Helper()
	client := jet.New(js, jet.Use, discard)
	for from, more := uint64(1), true; more; {
		var page jet.Page
		eventually(t, func() bool {
			var err error
			page, err = client.Read(t.Context(), name, jet.ReadRequest{Subject: ">", From: from, Batch: 1000, MaxBytes: 1 << 20})
			return err == nil
		}, "a part of the stream is read")
		for _, m := range page.Messages {
			from = m.Sequence + 1
			if m.Subject != except {
				bodies = append(bodies, m.Data)
			}
		}
		more = page.Remaining > 0
	}
	return bodies
}

func ids(events []event.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.ID)
	}
	return out
}

func eventIDs(orchestrator string, from, to int) []string {
	var out []string
	for n := from; n < to; n++ {
		out = append(out, fmt.Sprintf("event_%s_%d", orchestrator, n))
	}
	return out
}

// fault is what a server can be made to suffer, while it answers.
type fault struct{ begin, end func() }

// loading is a server that can be made to load its data, as a replica does that its
// master sends all, or a server that has just been started.
func loading(t *testing.T) (*testserver.RedisServer, fault) {
	// It looks at its connections after so many bytes.
	server := testserver.Redis(t, "--enable-debug-command", "local", "--loading-process-events-interval-bytes", "1024")
	admin := server.Client()
	loaded := make(chan error, 1)
	return server, fault{
		begin: func() {
			require.NoError(t, admin.Do(t.Context(), "DEBUG", "POPULATE", "200000", "other").Err())
			require.NoError(t, admin.ConfigSet(t.Context(), "key-load-delay", "500").Err()) // microseconds
			go func() { loaded <- admin.Do(t.Context(), "DEBUG", "RELOAD").Err() }()
		},
		end: func() {
			require.NoError(t, admin.ConfigSet(t.Context(), "key-load-delay", "0").Err())
			require.NoError(t, <-loaded)
		},
	}
}

// cannotSave is a server whose disk can be made to fail; it then refuses writes.
func cannotSave(t *testing.T) (*testserver.RedisServer, fault) {
	server := testserver.Redis(t, "--enable-protected-configs", "local")
	admin := server.Client()
	set := func(name, value string) { require.NoError(t, admin.ConfigSet(t.Context(), name, value).Err()) }
	return server, fault{
		begin: func() {
			set("save", "3600 1")
			dir := filepath.Join(t.TempDir(), "gone")
			require.NoError(t, os.Mkdir(dir, 0o700))
			set("dir", dir)
			require.NoError(t, os.Remove(dir))
			require.NoError(t, admin.BgSave(t.Context()).Err())
		},
		end: func() { set("stop-writes-on-bgsave-error", "no") },
	}
}
