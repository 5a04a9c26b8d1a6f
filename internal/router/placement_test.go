package router

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// roster is a directory that the test writes.
type roster struct {
	mu      sync.Mutex
	members map[string]bool // name to draining; "self" is this router
}

func (r *roster) Self() ring.Member { return ring.Member{Name: "self"} }

func (r *roster) Members(ring.Tier) []ring.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []ring.Member
	for name, draining := range r.members {
		all = append(all, ring.Member{Name: name, Draining: draining})
	}
	return all
}

func (r *roster) set(name string, draining bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[name] = draining
}

func (r *roster) SetDraining(_ context.Context, draining bool) error {
	r.set("self", draining)
	return nil
}

func (r *roster) Leave(context.Context) error { return nil }

func (c *cluster) routing(change func(*routing)) *routing {
	c.t.Helper()
	requests, err := newRequests(testserver.Connect(c.t, c.server.ClientURL()))
	require.NoError(c.t, err)
	r := &routing{
		cfg: c.config(), timing: defaultTiming(), log: c.log, requests: requests, logger: c.logger,
		holders: func(dst []string, _ event.Token) []string { return dst },
		metrics: newMetrics(prometheus.NewPedanticRegistry()),
	}
	change(r)
	return r
}

func TestPlacementFollowsTheRoutersThatTakePartitions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	routing := c.routing(func(r *routing) {
		r.timing.placement, r.timing.handover, r.timing.isolated = 10*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	})
	directory := &roster{members: map[string]bool{"self": true}}
	var connected atomic.Bool
	connected.Store(true)
	l := newPlacement(directory, connected.Load)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx, context.Background(), routing)
	}()
	serving := func(n int) func() bool {
		return func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.partitions) == n && l.looked
		}
	}
	c.eventually(serving(partitions), "alone, it serves all")

	// Names are tried until one wins a partition.
	mine := func(others ...string) (n int) {
		for p := range partitions {
			if ring.Owner("partition "+label(event.Partition(p)), append(others, "self")) == "self" {
				n++
			}
		}
		return n
	}
	rival := "rival"
	for mine(rival) == partitions {
		rival += "+"
	}
	directory.set(rival, true)
	c.eventually(serving(partitions), "a draining router is no target")
	directory.set(rival, false)
	c.eventually(serving(mine(rival)), "the rival has its share")
	directory.set(rival, true)
	c.eventually(serving(partitions), "the rival drains")

	directory.set(rival, false)
	connected.Store(false)
	c.eventually(serving(0), "without NATS it leaves all to the rival")
	connected.Store(true)
	c.eventually(serving(mine(rival)), "with NATS it takes its share")
	directory.set(rival, true) // first, so that there never is a rival to leave it to
	connected.Store(false)
	c.eventually(func() bool { return len(l.candidates()) == 0 }, "nobody has NATS")
	require.False(t, serving(0)(), "then everyone keeps what it has")

	stop()
	<-ended
	require.True(t, directory.members["self"], "it drains")
}

// standing is a log whose first consumer stops yielding without an error.
type standing struct {
	*eventlog.Log
	after uint64
	calls atomic.Int32
}

func (s *standing) Follow(ctx context.Context, p event.Partition, from uint64, handle func(eventlog.Message) error, options ...eventlog.FollowOption) error {
	if s.calls.Add(1) > 1 {
		return s.Log.Follow(ctx, p, from, handle, options...)
	}
	return s.Log.Follow(ctx, p, from, func(m eventlog.Message) error {
		if m.Sequence > s.after {
			<-ctx.Done()
			return ctx.Err()
		}
		return handle(m)
	}, options...)
}

// Reports: nats-io/nats-server#5679, #6017, #2488.
func TestConsumerThatStandsStillIsMadeAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	log := &standing{Log: c.log, after: 5}
	routing := c.routing(func(r *routing) {
		r.log = log
		r.timing.watchdog, r.timing.standstill = 50*time.Millisecond, 50*time.Millisecond
	})
	p := serve(t.Context(), routing, c.log.Partition("alpha"))
	var last uint64
	for range 10 {
		last = c.publish("alpha")
	}
	c.eventually(func() bool {
		r := p.current.Load()
		return r != nil && r.position.Load() >= last
	}, "all events")
	// So soon after the first one, the next consumer may be taken for standing too.
	require.Positive(t, testutil.ToFloat64(routing.metrics.resets.Of(resetStood)))
	p.leave()
	<-p.done
	checkpoint, found, err := c.log.LoadCheckpoint(t.Context(), p.id)
	require.NoError(t, err)
	require.True(t, found)
	require.GreaterOrEqual(t, checkpoint.Sequence, last, "saved at the end")
}

func TestCheckpointAheadOfTheLogRaisesTheEpoch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	id := c.log.Partition("alpha")
	c.publish("alpha")
	require.NoError(t, c.log.SaveCheckpoint(t.Context(), id, eventlog.Checkpoint{Epoch: c.log.Epoch(id), Sequence: 1000}))
	before := c.log.Epoch(id)
	routing := c.routing(func(*routing) {})
	p := serve(t.Context(), routing, id)
	c.eventually(func() bool { return p.current.Load() != nil }, "started")
	require.EqualValues(t, 1, testutil.ToFloat64(routing.metrics.epochs))
	require.NotEqual(t, before, p.current.Load().epoch)
	p.leave()
	<-p.done
}

func TestStandstill(t *testing.T) {
	t.Parallel()
	type look struct {
		at, began int // seconds
		fed, last uint64
		full      bool
		want      bool
	}
	cases := map[string][]look{
		"at the end":            {{at: 3, fed: 5, last: 5}, {at: 30, fed: 5, last: 5}},
		"moving":                {{at: 3, fed: 5, last: 9}, {at: 9, fed: 7, last: 12}, {at: 15, fed: 9, last: 15}},
		"just stored":           {{at: 3, fed: 5, last: 5}, {at: 30, fed: 5, last: 9}, {at: 33, fed: 5, last: 9}},
		"standing":              {{at: 3, fed: 5, last: 9}, {at: 6, fed: 5, last: 9}, {at: 9, fed: 5, last: 9, want: true}},
		"standing and growing":  {{at: 3, fed: 5, last: 9}, {at: 6, fed: 5, last: 10}, {at: 9, fed: 5, last: 11, want: true}},
		"once for the same":     {{at: 3, fed: 5, last: 9}, {at: 9, fed: 5, last: 9, want: true}, {at: 16, began: 9, fed: 5, last: 9}, {at: 30, began: 9, fed: 5, last: 9}},
		"again when more comes": {{at: 3, fed: 5, last: 9}, {at: 9, fed: 5, last: 9, want: true}, {at: 12, began: 9, fed: 5, last: 12}, {at: 18, began: 9, fed: 5, last: 12, want: true}},
		"held back by the lane": {{at: 3, fed: 5, last: 9, full: true}, {at: 30, fed: 5, last: 9, full: true}},
		// Regression: after an outage of NATS each consumer was made 3 s after the
		// one before, and ended by the look that came just then, for minutes.
		"made anew by others": {{at: 3, fed: 5, last: 9}, {at: 9, began: 9, fed: 5, last: 12}, {at: 12, began: 12, fed: 5, last: 15}, {at: 15, began: 12, fed: 5, last: 18}},
	}
	for name, looks := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := standstill{patience: 6 * time.Second}
			start := time.Unix(0, 0)
			at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
			for i, l := range looks {
				require.Equal(t, l.want, w.found(at(l.at), at(l.began), l.fed, l.last, l.full), "look %d", i)
			}
		})
	}
}

func TestRepliesNameTheirRunAndBatch(t *testing.T) {
	t.Parallel()
	q := &requests{prefix: "_INBOX.x."}
	number, id, ok := q.parse("_INBOX.x.1a.zz")
	require.True(t, ok)
	require.EqualValues(t, 46, number)
	require.Equal(t, lane.BatchID(1295), id)
	for _, bad := range []string{"_INBOX.x.1a", "_INBOX.x.1a.", "_INBOX.x..1", "_INBOX.x.1!.2"} {
		_, _, ok := q.parse(bad)
		require.False(t, ok, bad)
	}
}
