package router

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

var tokens = []event.Token{"alpha", "beta", "gamma", "delta"}

func TestEventsReachTheEdgeInOrderWithTrueClaims(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	r := c.router("router")
	for _, o := range tokens {
		e.claim(o)
	}
	c.known(r, tokens...)
	c.owning(r, partitions)
	last := map[event.Token]uint64{}
	for range 50 {
		for _, o := range tokens {
			last[o] = c.publish(o)
		}
	}
	for _, o := range tokens {
		c.reached(e, o, last[o])
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range tokens {
		require.Len(t, e.events[o], 50)
		for i, f := range e.events[o] {
			require.Less(t, f.After, f.Sequence)
			if i > 0 {
				require.Equal(t, e.events[o][i-1].Sequence, f.After)
			}
		}
	}
	require.EqualValues(t, 200, testutil.ToFloat64(r.metrics.forwarded))
}

func TestEveryEdgeThatHoldsAnOrchestratorGetsItsEvents(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	one, two := c.edge("one"), c.edge("two")
	r := c.router("router")
	one.claim("alpha")
	two.claim("alpha")
	two.claim("beta")
	c.known(r, "alpha", "beta")
	c.eventually(func() bool { return len(r.ring.AppendEdges(nil, "alpha")) == 2 }, "both claims known")
	c.owning(r, partitions)
	a, b := c.publish("alpha"), c.publish("beta")
	c.reached(one, "alpha", a)
	c.reached(two, "alpha", a)
	c.reached(two, "beta", b)
	require.False(t, one.has("beta", b))
}

func TestKilledRouterIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	one, two := c.router("one"), c.router("two")
	for _, o := range tokens {
		e.claim(o)
	}
	c.known(one, tokens...)
	c.known(two, tokens...)
	c.eventually(func() bool { return one.owns()+two.owns() == partitions && len(two.placement.candidates()) == 2 }, "each partition has one owner")
	victim, survivor := one, two
	if victim.owns() == 0 {
		victim, survivor = two, one
	}
	published := map[event.Token][]uint64{}
	publish := func(n int) {
		for range n {
			for _, o := range tokens {
				published[o] = append(published[o], c.publish(o))
			}
		}
	}
	publish(20)
	victim.kill()
	publish(20)
	<-victim.ended
	require.ErrorIs(t, victim.err, natsconn.ErrClosed)
	c.owning(survivor, partitions)
	publish(20)
	for _, o := range tokens {
		c.reached(e, o, published[o]...)
	}
}

func TestOrderlyStopHandsPartitionsOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	one, two := c.router("one"), c.router("two")
	for _, o := range tokens {
		e.claim(o)
	}
	c.known(one, tokens...)
	c.known(two, tokens...)
	c.eventually(func() bool { return one.owns()+two.owns() == partitions && len(one.placement.candidates()) == 2 }, "each partition has one owner")
	for _, o := range tokens {
		c.checkpointed(o, c.publish(o))
	}
	published := map[event.Token][]uint64{}
	one.stop()
	// Paced, so that no event is pushed out of the log by newer ones.
	pace := time.NewTicker(moment)
	defer pace.Stop()
	for !isClosed(one.ended) {
		for _, o := range tokens {
			published[o] = append(published[o], c.publish(o))
		}
		<-pace.C
	}
	require.NoError(t, one.err)
	c.owning(two, partitions)
	for _, o := range tokens {
		c.reached(e, o, published[o]...)
		require.Zero(t, e.hinted(o), "every event came by itself")
	}
}

func TestLateClaimIsHinted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	r := c.router("router")
	c.owning(r, partitions)
	sequence := c.publish("alpha")
	c.eventually(func() bool {
		return testutil.ToFloat64(r.metrics.events[statusSuccess].Of(eventQueued)) == 1
	}, "the event waits")
	e.claim("alpha")
	c.eventually(func() bool { return e.hinted("alpha") == sequence }, "hinted")
	require.False(t, e.has("alpha", sequence))
}

func TestRouterContinuesFromTheCheckpointOrElseFromTheOldest(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	var sequences []uint64
	for range 10 {
		sequences = append(sequences, c.publish("alpha"))
	}
	e := c.edge("edge")
	e.claim("alpha")
	first := c.router("first")
	// The claim may come after the events have been read: then a hint does.
	c.eventually(func() bool {
		return e.has("alpha", sequences[9]) && e.count() == 10 || e.hinted("alpha") == sequences[9]
	}, "the oldest retained events")
	require.EqualValues(t, 1, testutil.ToFloat64(first.metrics.replays.Of(replayNoCheckpoint)))
	first.stop()
	<-first.ended
	before := e.count()

	missed := c.publish("alpha")
	second := c.router("second")
	c.toldOf(e, "alpha", missed)
	require.Zero(t, testutil.ToFloat64(second.metrics.replays.Of(replayNoCheckpoint)))
	require.LessOrEqual(t, e.count(), before+1, "nothing twice")
}

func TestRecreatedStreamIsFollowedFromItsStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	e.claim("alpha")
	r := c.router("router")
	c.known(r, "alpha")
	c.owning(r, partitions)
	var before uint64
	for range 30 {
		before = c.publish("alpha")
	}
	c.reached(e, "alpha", before)
	c.checkpointed("alpha", before)
	require.NoError(t, c.server.JetStream().DeleteStream(t.Context(), event.StreamName(c.log.Partition("alpha"))))
	after := c.publish("alpha")
	require.Less(t, after, before, "sequences are used again")
	c.eventually(func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.epochs) == 2
	}, "an event of the new epoch")
	require.Positive(t, testutil.ToFloat64(r.metrics.replays.Of(replayEpoch)))
}

// nextEpoch waits for a run of another epoch than the old one.
func (r *running) nextEpoch(c *cluster, o event.Token, old eventlog.Epoch) eventlog.Epoch {
	c.t.Helper()
	var epoch eventlog.Epoch
	c.eventually(func() bool {
		served := r.placement.get(c.log.Partition(o))
		if served == nil {
			return false
		}
		current := served.current.Load()
		if current == nil || current.epoch == old {
			return false
		}
		epoch = current.epoch
		return true
	}, "a run of the new epoch")
	return epoch
}

func TestOutageOfNATSEndsWithDelivery(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	e.claim("alpha")
	r := c.router("router")
	c.known(r, "alpha")
	c.owning(r, partitions)
	c.reached(e, "alpha", c.publish("alpha"))
	for range 2 {
		c.server.Restart()
		c.reached(e, "alpha", c.publish("alpha"))
	}
	require.Zero(t, testutil.ToFloat64(r.metrics.epochs))
}

func TestRefusedEventsGoToTheDeadLettersAndThePartitionGoesOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	e.claim("alpha")
	r := c.router("router")
	c.known(r, "alpha")
	c.owning(r, partitions)
	bodies := []string{"", "nonsense", `{"id":"1"}`, `{"id":"1","type":"a.b","orchestratorId":"beta","payload":{}}`}
	for _, body := range bodies {
		c.put("alpha", body)
	}
	sequence := c.publish("alpha")
	c.reached(e, "alpha", sequence)
	require.Equal(t, 1, e.count())
	letters := stream(t, c.server.JetStream(), "DAEMON_DEADLETTERS")
	c.eventually(func() bool {
		info, err := letters.Info(t.Context())
		return err == nil && info.State.Msgs >= uint64(len(bodies))-1 // those without an id may count as one
	}, "dead letters")
	c.checkpointed("alpha", sequence) // once they are stored
	require.EqualValues(t, len(bodies), testutil.ToFloat64(r.metrics.events[statusSuccess].Of(eventDeadLettered)))
}

// misplaced returns an orchestrator that a publisher which takes the cluster
// for one of 1 partition would put elsewhere.
func misplaced(c *cluster) event.Token {
	for n := 0; ; n++ {
		if token := event.TokenOf(fmt.Sprintf("orchestrator%d", n)); c.log.Partition(token) != 0 {
			return token
		}
	}
}

// Invariant 1: a publisher that assumes another number of partitions has an ack for
// what nobody would read.
func TestEventInAnotherPartitionIsBroughtHomeOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	token := misplaced(c)
	e := c.edge("edge")
	e.claim(token)
	r := c.router("router")
	c.known(r, token)
	c.owning(r, partitions)
	p, err := publisher.New(c.server.JetStream(), publisher.Config{Partitions: 1})
	require.NoError(t, err)
	for _, id := range []string{"a", "b"} {
		e := event.Event{ID: id, Type: "a.b", OrchestratorID: protocol.OrchestratorID(token), Payload: []byte(`{}`)}
		c.eventually(func() bool { _, err := p.Publish(t.Context(), e); return err == nil }, "stored by a publisher with other partitions")
	}
	var stored []string
	c.eventually(func() bool {
		page, err := c.log.Read(t.Context(), c.log.Partition(token), token, 1, 10, 1<<20)
		stored = nil
		for _, m := range page.Messages {
			found, err := event.Parse(m.Body, 1<<20)
			require.NoError(t, err)
			stored = append(stored, found.ID)
		}
		return err == nil && len(stored) == 2
	}, "the events are in their orchestrator's partition")
	require.Equal(t, []string{"a", "b"}, stored)
	c.eventually(func() bool {
		return testutil.ToFloat64(r.metrics.events[statusSuccess].Of(eventMoved)) == 2
	}, "both are counted")
	require.Zero(t, testutil.ToFloat64(r.metrics.events[statusSuccess].Of(eventDeadLettered)))
}

// fullHome is a log whose partitions take nothing.
type fullHome struct{ source }

func (fullHome) Publish(context.Context, event.Token, string, []byte) (eventlog.Ack, error) {
	return eventlog.Ack{}, eventlog.ErrLogFull
}

func TestEventThatCannotBeBroughtHomeGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	routing := &routing{log: fullHome{c.log}, metrics: newMetrics(prometheus.NewRegistry()), cfg: c.config(), logger: c.logger}
	r := newRun(routing, 0, "1", 0)
	token := misplaced(c)
	err := lane.CheckEvent(1<<20, 0, partitions, nil)(eventlog.Message{
		Token: token, Sequence: 1, Body: []byte(`{"id":"a","type":"a.b","orchestratorId":"` + string(token) + `","payload":{}}`),
	})
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.NoError(t, r.store(t.Context(), lane.DeadLetter{Message: eventlog.Message{Token: token, Sequence: 1}, Invalid: invalid}))
	letters := stream(t, c.server.JetStream(), "DAEMON_DEADLETTERS")
	m, err := letters.GetLastMsgForSubject(t.Context(), eventlog.DeadLetterSubject(event.ReasonWrongPartition, token))
	require.NoError(t, err)
	require.Contains(t, string(m.Data), "its publisher assumes another number of partitions")
}

// leaderlessHome is a log whose partitions have no leader for a while.
type leaderlessHome struct {
	source
	tries, away int
	letters     int
}

func (l *leaderlessHome) Publish(context.Context, event.Token, string, []byte) (eventlog.Ack, error) {
	if l.tries++; l.tries <= l.away {
		return eventlog.Ack{}, eventlog.ErrUnavailable
	}
	return eventlog.Ack{}, nil
}

func (l *leaderlessHome) DeadLetter(context.Context, eventlog.DeadLetter) error {
	l.letters++
	return nil
}

func (l *leaderlessHome) EachHead(context.Context, event.Partition, event.Token, uint64, int, func(eventlog.Head)) (bool, error) {
	return false, nil
}

// knownHome is a log that has an event of a while ago, and does not recognize its id
// any more.
type knownHome struct {
	source
	id    string
	asked int
	moved []string
}

func (h *knownHome) EachHead(_ context.Context, _ event.Partition, token event.Token, _ uint64, _ int, yield func(eventlog.Head)) (bool, error) {
	h.asked++
	yield(eventlog.Head{Sequence: 1, MessageID: event.MessageID(token, h.id)})
	return false, nil
}

func (h *knownHome) Publish(_ context.Context, _ event.Token, id string, _ []byte) (eventlog.Ack, error) {
	h.moved = append(h.moved, id)
	return eventlog.Ack{}, nil
}

// In a new epoch a partition starts from its oldest event, and brought home once more
// what daemons had days ago.
func TestWhatWasBroughtHomeLongAgoIsNotBroughtAgain(t *testing.T) {
	t.Parallel()
	home := &knownHome{id: "moved"}
	routing := &routing{log: home, metrics: newMetrics(prometheus.NewRegistry()), logger: slog.New(slog.DiscardHandler)}
	routing.cfg.Log.Partitions, routing.cfg.Log.DuplicateWindow = partitions, 2*time.Minute
	routing.cfg.Log.EventsPerOrchestrator = 1000
	r := newRun(routing, 0, "1", 0)
	store := func(id string, age time.Duration) {
		require.NoError(t, r.store(t.Context(), lane.DeadLetter{
			Message: eventlog.Message{Token: "alpha", Sequence: 1, Stored: time.Now().Add(-age)},
			Invalid: &event.InvalidError{Reason: event.ReasonWrongPartition, Event: event.Event{ID: id}},
		}))
	}
	store("moved", 24*time.Hour)
	require.Empty(t, home.moved)
	store("other", 24*time.Hour)
	require.Equal(t, []string{"other"}, home.moved)
	require.Equal(t, 2, home.asked)
	store("new", 0)
	require.Equal(t, []string{"other", "new"}, home.moved)
	require.Equal(t, 2, home.asked, "what is new the log recognizes itself")
}

// Invariant 2: what was brought home, and has since made room for newer events there, is
// no new event when its partition starts from its oldest again.
func TestWhatHomeHasLetGoOfIsNotBroughtAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	cfg := c.config().Log
	cfg.EventsPerOrchestrator = 3
	stream := c.server.JetStream()
	for p := range partitions {
		require.NoError(t, stream.DeleteStream(t.Context(), event.StreamName(event.Partition(p))))
	}
	log, err := eventlog.Open(t.Context(), stream, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	c.log = log
	routing := &routing{log: log, metrics: newMetrics(prometheus.NewRegistry()), logger: slog.New(slog.DiscardHandler)}
	routing.cfg.Log = cfg
	r := newRun(routing, 0, "1", 0)
	bring := func(id string, age time.Duration) {
		body := fmt.Appendf(nil, `{"id":%q,"type":"message.received","orchestratorId":"alpha","payload":{},"requiresAck":true}`, id)
		require.NoError(t, r.store(t.Context(), lane.DeadLetter{
			Message: eventlog.Message{Token: "alpha", Sequence: 1, Stored: time.Now().Add(-age), Body: body},
			Invalid: &event.InvalidError{Reason: event.ReasonWrongPartition, Event: event.Event{ID: id}},
		}))
	}
	var newest uint64
	for range cfg.EventsPerOrchestrator {
		newest = c.publish("alpha")
	}
	bring("old", 24*time.Hour)
	last := func() uint64 {
		lasts, err := log.LastSequences(t.Context(), log.Partition("alpha"), []event.Token{"alpha"})
		require.NoError(t, err)
		return lasts[0].Sequence
	}
	require.Equal(t, newest, last(), "older than all that a full store keeps")
	bring("late", 0)
	require.Greater(t, last(), newest)
}

// An election takes longer than a few tries, and is no reason to give an event up
// while there is room for what waits.
func TestEventWhoseHomeHasNoLeaderIsBroughtThereLater(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		refused int64
		letters int
	}{
		"few wait":  {0, 0},
		"many wait": {lane.MaxRefused, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := &leaderlessHome{away: 3 * moveTries}
			routing := &routing{log: home, metrics: newMetrics(prometheus.NewRegistry()), logger: slog.New(slog.DiscardHandler)}
			routing.cfg.Log.Partitions = partitions
			r := newRun(routing, 0, "1", 0)
			r.refused.Store(tt.refused)
			require.NoError(t, r.store(t.Context(), lane.DeadLetter{
				Message: eventlog.Message{Token: "alpha", Sequence: 1},
				Invalid: &event.InvalidError{Reason: event.ReasonWrongPartition},
			}))
			require.Equal(t, tt.letters, home.letters)
		})
	}
}

// What is refused waits for the dead letters, up to a bound, and is neither
// dropped nor forgotten: the partition waits with it, says so, and goes on.
func TestPartitionWaitsForTheDeadLettersAndSaysSo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	js := c.server.JetStream()
	letters := stream(t, js, eventlog.DeadletterStream)
	sealed := letters.CachedInfo().Config
	sealed.MaxMsgSize = 1
	_, err := js.UpdateStream(t.Context(), sealed)
	require.NoError(t, err)
	e := c.edge("edge")
	e.claim("alpha")
	r := c.router("router")
	c.known(r, "alpha")
	c.owning(r, partitions)
	for n := range lane.MaxRefused {
		c.put("alpha", fmt.Sprintf(`{"id":"%d"}`, n))
	}
	sequence := c.publish("alpha")
	var body string
	c.eventually(func() bool {
		_, body = get(t, r, "/readyz")
		return strings.Contains(body, errRefused.Error())
	}, "says so")
	_, metrics := get(t, r, "/metrics")
	require.Contains(t, metrics, fmt.Sprintf(`gateway_router_refused_waiting{partition="%d"} %d`, c.log.Partition("alpha"), lane.MaxRefused))
	require.False(t, e.has("alpha", sequence))

	sealed.MaxMsgSize = -1
	_, err = js.UpdateStream(t.Context(), sealed)
	require.NoError(t, err)
	c.reached(e, "alpha", sequence)
	c.checkpointed("alpha", sequence)
	info, err := letters.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, lane.MaxRefused, info.State.Msgs)
}

func TestSilentEdgeHoldsNobodyUpAndIsHinted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	silent, well := c.edge("silent"), c.edge("well")
	silent.claim("alpha")
	well.claim("beta")
	r := c.router("router", func(cfg *Config) { cfg.ForwardInflight, cfg.ForwardTimeout = 1, 500*time.Millisecond })
	c.known(r, "alpha", "beta")
	c.owning(r, partitions)
	silent.mute.Store(true)
	var last uint64
	for range 100 {
		last = c.publish("alpha")
	}
	c.toldOf(well, "beta", c.publish("beta"))
	silent.mute.Store(false)
	c.toldOf(silent, "alpha", last)
	c.checkpointed("alpha", last)
}

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	nats := testserver.NATS(t)
	c := newCluster(t, nats)
	nats.Shutdown()
	r := c.router("router")
	status, body := get(t, r, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, `"partitions"`)
	require.Contains(t, body, `"nats":{"ready":false`)
	nats.Start()
	c.eventually(func() bool {
		status, body = get(t, r, "/readyz")
		return status == http.StatusOK
	}, "ready")
	require.Contains(t, body, fmt.Sprintf("serving %d of %d", partitions, partitions))
	_, metrics := get(t, r, "/metrics")
	require.Contains(t, metrics, `gateway_partition_owned{partition="0"} 1`)
	require.Contains(t, metrics, `ws_events_total{status="success",type="routed"} 0`)
}

func get(t *testing.T, r *running, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.AdminAddr()+path, nil)
	require.NoError(t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestNewGivesEverythingBackWhenItFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	cfg := c.config()
	cfg.Admin.AdminAddr = "256.0.0.1:0"
	_, err := New(cfg, c.logger)
	require.Error(t, err)
}

func TestWrongNumberOfPartitionsEndsTheRouter(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	cfg := c.config()
	cfg.Log.Partitions = partitions + 1
	r, err := New(cfg, c.logger)
	require.NoError(t, err)
	require.ErrorIs(t, r.Run(t.Context()), eventlog.ErrPartitions)
}
