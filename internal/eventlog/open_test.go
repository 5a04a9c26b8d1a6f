package eventlog_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestManyNodesOpenAtOnce(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	var group errgroup.Group
	logs := make([]*eventlog.Log, 6)
	for i := range logs {
		js := s.JetStream()
		group.Go(func() (err error) {
			logs[i], err = eventlog.Open(t.Context(), js, config(), quiet(), prometheus.NewRegistry())
			return err
		})
	}
	require.NoError(t, group.Wait())
	for _, l := range logs {
		for p := range event.Partition(2) {
			require.NotEmpty(t, l.Epoch(p))
			require.Equal(t, logs[0].Epoch(p), l.Epoch(p))
		}
	}
}

func TestOpenRefusesAnotherNumberOfPartitions(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	cfg := config(func(c *eventlog.Config) { c.Partitions = 3 })
	_, err := eventlog.Open(t.Context(), s.JetStream(), cfg, quiet(), prometheus.NewRegistry())
	require.ErrorIs(t, err, eventlog.ErrPartitions)
	require.ErrorContains(t, err, "PARTITIONS is 3, expected 2")
}

// JetStream that is switched off is the first mistake of everybody who installs
// NATS; "no responders available for request" tells nobody.
func TestOpenSaysInWordsWhatNATSLacks(t *testing.T) {
	t.Parallel()
	withoutLimits := func(o *server.Options) {
		app := server.NewAccount("app")
		o.Accounts = []*server.Account{app}
		o.Users = []*server.User{{Username: "app", Password: "app", Account: app}}
		o.NoAuthUser = "app"
	}
	for name, tt := range map[string]struct {
		change func(*server.Options)
		want   string
	}{
		"JetStream is switched off":    {func(o *server.Options) { o.JetStream = false }, "start nats-server with -js"},
		"the account has no JetStream": {withoutLimits, "give the account JetStream limits"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NATS(t, tt.change)
			said := make(chan string, 1000)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = eventlog.Open(ctx, s.JetStream(), config(), quiet(), prometheus.NewRegistry(), eventlog.Progress(func(detail string) { said <- detail }))
			}()
			for detail := ""; !strings.Contains(detail, tt.want); {
				select {
				case detail = <-said:
				case <-time.After(testserver.Patience):
					t.Fatal("it is never said")
				}
			}
			cancel()
			<-ended
		})
	}
}

func TestOpenRefusesWhatNATSCanNeverHold(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*eventlog.Config){
		"replicas without a cluster": func(c *eventlog.Config) { c.StreamReplicas = 3 },
		"events over max_payload":    func(c *eventlog.Config) { c.MaxEventBytes = 1 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NATS(t)
			_, err := eventlog.Open(t.Context(), s.JetStream(), config(change), quiet(), prometheus.NewRegistry())
			require.ErrorIs(t, err, eventlog.ErrConfig)
		})
	}
}

func TestOpenWaitsForNATSAndSaysSo(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := s.JetStream()
	s.Shutdown()
	require.Eventually(t, func() bool { return !js.Conn().IsConnected() }, waitTime, time.Millisecond)
	var (
		mu      sync.Mutex
		details []string
	)
	waiting := make(chan struct{})
	var once sync.Once
	progress := eventlog.Progress(func(detail string) {
		mu.Lock()
		defer mu.Unlock()
		if details = append(details, detail); len(details) > 1 {
			once.Do(func() { close(waiting) })
		}
	})
	go func() {
		<-waiting
		s.Start()
	}()
	open(t, js, config(), progress)
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, details[1], "not connected to NATS")
	require.Empty(t, details[len(details)-1])
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := s.JetStream()
	s.Shutdown()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := eventlog.Open(ctx, js, config(), quiet(), prometheus.NewRegistry(), eventlog.Progress(func(detail string) {
		if detail != "connecting to NATS" {
			cancel()
		}
	}))
	require.ErrorIs(t, err, context.Canceled)
}

// TestOpenExplainsMissingRoom: where not even small partitions fit, waiting may
// help, since an operator can make room.
func TestOpenExplainsMissingRoom(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t, func(o *server.Options) { o.JetStreamMaxStore = 40 << 20 })
	ctx, cancel := context.WithCancel(t.Context())
	_, err := eventlog.Open(ctx, s.JetStream(), config(), quiet(), prometheus.NewRegistry(), eventlog.Progress(func(detail string) {
		if detail != "connecting to NATS" {
			cancel()
		}
	}))
	require.ErrorContains(t, err, "NATS cannot reserve even 32MiB for each of")
}

func TestOnlyAManagerChangesWhatExists(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	js := s.JetStream()
	longer := config(func(c *eventlog.Config) {
		c.EventRetention, c.EventsPerOrchestrator = 14*24*time.Hour, 2000
	})
	check := func(maxAge time.Duration, perSubject int64) {
		t.Helper()
		stream, err := js.Stream(t.Context(), event.StreamName(1))
		require.NoError(t, err)
		require.Equal(t, maxAge, stream.CachedInfo().Config.MaxAge)
		require.Equal(t, perSubject, stream.CachedInfo().Config.MaxMsgsPerSubject)
		bucket, err := js.Stream(t.Context(), eventlog.BucketStream(eventlog.CursorBucket(1)))
		require.NoError(t, err)
		require.Equal(t, maxAge+24*time.Hour, bucket.CachedInfo().Config.MaxAge)
	}
	open(t, js, longer)
	check(7*24*time.Hour, 1000)
	open(t, js, longer, eventlog.Manage())
	check(14*24*time.Hour, 2000)
}

// Regression: buckets that the client library makes, as earlier releases had it
// make them, can be emptied by whoever may write one key.
func TestWhatEarlierReleasesMadeIsGuardedOnceSomebodyManagesIt(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	cfg := config()
	unguarded := func() (names []string) {
		all := js.ListStreams(t.Context())
		for info := range all.Info() {
			// Operators remove single dead letters.
			if info.Config.AllowRollup || info.Config.DenyDelete == (info.Config.Name == eventlog.DeadletterStream) {
				names = append(names, info.Config.Name)
			}
		}
		require.NoError(t, all.Err())
		slices.Sort(names)
		return names
	}
	for _, bucket := range []string{eventlog.ClusterBucket, eventlog.CursorBucket(0)} {
		_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
			Bucket: bucket, MaxBytes: 16 << 20, Storage: jetstream.FileStorage, Replicas: 1,
		})
		require.NoError(t, err)
	}
	former, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: event.StreamName(0), Subjects: []string{event.Subject(0, "*")}, AllowDirect: true,
	})
	require.NoError(t, err)
	bucket, err := js.KeyValue(t.Context(), eventlog.CursorBucket(0))
	require.NoError(t, err)
	_, err = bucket.Put(t.Context(), "o", []byte("stays"))
	require.NoError(t, err)

	open(t, js, cfg)
	require.Equal(t, []string{former.CachedInfo().Config.Name, "KV_daemon_cursors_0", "KV_gateway_cluster"}, unguarded(),
		"what this release makes is guarded; who does not manage changes nothing")
	openUnresolved(t, open(t, js, cfg, eventlog.Manage()))
	require.Empty(t, unguarded())
	entry, err := bucket.Get(t.Context(), "o")
	require.NoError(t, err)
	require.Equal(t, "stays", string(entry.Value()))
	require.Error(t, bucket.Purge(t.Context(), "o"), "this needs the header")
	require.NoError(t, bucket.Delete(t.Context(), "o"))
}

// Regression: servers that elect a leader leave requests unanswered. A node that
// started then waited for one answer until its time for everything was over, so
// that after a crash of all servers a bridge published nothing for 15 s.
func TestOpenAsksAgainWhatIsNotAnswered(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]string{
		"leaders": ".STREAM.",
		// Regression: a replica that stands still is not missed by the others for
		// up to a minute, and each read that came to it cost 5 s.
		"replicas": ".DIRECT.GET.",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NATS(t)
			js := electing(t, s, part)
			var mu sync.Mutex
			var details []string
			open(t, js, config(), eventlog.Progress(func(detail string) {
				mu.Lock()
				defer mu.Unlock()
				details = append(details, detail)
			}))
			require.Equal(t, []string{"connecting to NATS", ""}, details, "it begins anew only when a whole try has failed")
		})
	}
}

// A node that makes no streams waits for them, and says who makes them.
func TestAnUnmanagedLogUsesWhatOthersHaveMade(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	asked := testserver.Listen(t, testserver.Connect(t, s.ClientURL()), "$JS.API.STREAM.*.*")
	require.NoError(t, asked.SetPendingLimits(-1, -1))
	var opening eventlog.Opening
	opened := make(chan *eventlog.Log)
	js := s.JetStream()
	go func() {
		l, err := eventlog.Open(t.Context(), js, config(), quiet(), prometheus.NewRegistry(), opening.Option(), eventlog.Unmanaged())
		if err != nil {
			t.Error(err)
		}
		opened <- l
	}()
	require.Eventually(t, func() bool {
		ready, detail := opening.Check()
		return !ready && strings.Contains(detail, "KV_gateway_cluster") && strings.Contains(detail, "gateway-admin makes it")
	}, waitTime, time.Millisecond)
	for err := error(nil); err == nil; {
		var m *nats.Msg
		if m, err = asked.NextMsg(time.Millisecond); err == nil {
			require.True(t, strings.HasPrefix(m.Subject, "$JS.API.STREAM.INFO."), m.Subject)
		}
	}
	open(t, s.JetStream(), config(func(c *eventlog.Config) { c.EventsPerOrchestrator = 7 }), eventlog.Manage())
	l := <-opened
	ready, detail := opening.Check()
	require.True(t, ready)
	require.Equal(t, "open; other settings than this node's have: DAEMON_EVENTS_0, DAEMON_EVENTS_1; gateway-admin changes them", detail)

	require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(0)))
	require.NoError(t, js.DeleteStream(t.Context(), eventlog.DeadletterStream))
	_, err := l.Refresh(t.Context(), 0)
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	require.ErrorContains(t, err, "gateway-admin makes it")
	require.ErrorIs(t, l.DeadLetter(t.Context(), eventlog.DeadLetter{Reason: event.ReasonNotJSON, Body: []byte("x")}), eventlog.ErrUnavailable)
	before := l.Epoch(0)
	open(t, s.JetStream(), config(), eventlog.Manage())
	state, err := insist(func() (eventlog.State, error) { return l.Refresh(t.Context(), 0) })
	require.NoError(t, err)
	require.True(t, state.Epoch.Newer(before), "it is another stream")
	_, err = insist(func() (struct{}, error) {
		return struct{}{}, l.DeadLetter(t.Context(), eventlog.DeadLetter{Reason: event.ReasonNotJSON, Body: []byte("x")})
	})
	require.NoError(t, err)
}
