package eventlog_test

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What goes on while a cluster is disturbed takes a while, and is not to be all that
// the machine does.
const (
	eventsPerSecond    = 1000
	questionsPerSecond = 100
)

// disturbance is what befalls a cluster while it is published to and read. It
// returns when publishers have felt it, and how to end it.
type disturbance func(t *testing.T, c *testserver.Cluster, refused func() int) (end func())

// TestClusterIsDisturbed publishes while something is wrong: what was
// acknowledged is followed without a gap and in order, is read back, is stored
// once however often it was tried, and no replica's answer claims to hold beyond
// what it has. All goes on by itself.
func TestClusterIsDisturbed(t *testing.T) {
	t.Parallel()
	stream := event.StreamName(0)
	for name, disturb := range map[string]disturbance{
		"its leader is killed": func(_ *testing.T, c *testserver.Cluster, _ func() int) func() {
			leader := c.StreamLeader(c.JetStream(), stream)
			leader.Kill()
			return leader.Start
		},
		"its leader is stopped in order": func(_ *testing.T, c *testserver.Cluster, _ func() int) func() {
			leader := c.StreamLeader(c.JetStream(), stream)
			leader.Stop()
			return leader.Start
		},
		"its leader leaves by lame duck mode": func(_ *testing.T, c *testserver.Cluster, _ func() int) func() {
			leader := c.StreamLeader(c.JetStream(), stream)
			leader.Leave()
			return leader.Start
		},
		"its leader changes again and again": func(_ *testing.T, c *testserver.Cluster, _ func() int) func() {
			js := c.JetStream()
			for range 10 {
				c.StepDown(js, stream)
				c.StreamLeader(js, stream)
			}
			return func() {}
		},
		"it has no majority": func(t *testing.T, c *testserver.Cluster, refused func() int) func() {
			c.Nodes[0].Pause()
			c.Nodes[1].Pause()
			before := refused()
			require.Eventually(t, func() bool { return refused() > before+2 }, waitTime, time.Millisecond, "publishers are told")
			return func() {
				c.Nodes[0].Resume()
				c.Nodes[1].Resume()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disturbed(t, disturb)
		})
	}
}

func disturbed(t *testing.T, disturb disturbance) {
	c := testserver.NATSCluster(t, 3)
	cfg := config(func(c *eventlog.Config) { c.StreamReplicas, c.EventsPerOrchestrator = 3, 1<<20 })
	l := open(t, c.JetStream(), cfg)
	reader := open(t, c.JetStream(), cfg)
	epoch := l.Epoch(0)
	tokens := tokensOf(l, 0, 10)
	f := follow(t, reader, 0, 1)
	answers := make(chan []eventlog.Last, 1000)
	stopAsking := askAlways(t, reader, tokens, answers)

	p := publishers{
		log: l, tokens: tokens, pace: rate.NewLimiter(eventsPerSecond, len(tokens)), over: make(chan struct{}), acked: make([][]uint64, len(tokens)),
	}
	p.start(t.Context())
	end := disturb(t, c, func() int { return int(p.refused.Load()) })
	end()
	close(p.over)
	require.NoError(t, p.group.Wait())
	stopAsking()

	last := publish(t, l, tokens[0], "last", "x")
	f.until(t, last)
	require.NoError(t, f.stop())
	p.acked[0] = append(p.acked[0], last)
	for i, token := range tokens {
		require.Equal(t, p.acked[i], f.of(token), "orchestrator %s", token)
	}
	for answer := range answers {
		for i := range tokens {
			lies := func(s uint64) bool { return s > answer[i].Sequence && s <= answer[i].UpTo }
			require.False(t, slices.ContainsFunc(p.acked[i], lies), "an event lies between %+v", answer[i])
		}
	}
	require.Eventually(t, func() bool {
		page, err := reader.Read(t.Context(), 0, tokens[0], p.acked[0][0], 1000, 1<<20)
		return err == nil && len(page.Messages)+int(page.Remaining) == len(p.acked[0])
	}, waitTime, 10*time.Millisecond)
	state, err := l.Refresh(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, epoch, state.Epoch, "a change of leaders is no new epoch")
}

// askAlways asks for the newest events until it is told to stop, and closes
// answers then.
func askAlways(t *testing.T, l *eventlog.Log, tokens []event.Token, answers chan<- []eventlog.Last) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pace := rate.NewLimiter(questionsPerSecond, 1); pace.Wait(ctx) == nil; {
			if answer, err := l.LastSequences(ctx, 0, tokens); err == nil && len(answers) < cap(answers) {
				answers <- answer
			}
		}
		close(answers)
	}()
	return func() {
		cancel()
		<-done
	}
}

// publishers publish for each orchestrator one event after the other, each until
// it is acknowledged, and some more of them when the disturbance is over.
type publishers struct {
	log     *eventlog.Log
	tokens  []event.Token
	pace    *rate.Limiter // of all together
	over    chan struct{}
	acked   [][]uint64 // by token, in order
	refused atomic.Int64
	group   errgroup.Group
}

func (p *publishers) start(ctx context.Context) {
	for i, token := range p.tokens {
		p.group.Go(func() error { return p.publish(ctx, i, token) })
	}
}

func (p *publishers) publish(ctx context.Context, i int, token event.Token) error {
	const after = 60 // events when it is over
	for n, left := 0, after; left > 0; n++ {
		ack, err := p.try(ctx, token, n)
		for eventlog.Retryable(err) {
			p.refused.Add(1)
			ack, err = p.try(ctx, token, n)
		}
		if err != nil {
			return err
		}
		p.acked[i] = append(p.acked[i], ack.Sequence)
		select {
		case <-p.over:
			left--
		default:
		}
	}
	return nil
}

func (p *publishers) try(ctx context.Context, token event.Token, n int) (eventlog.Ack, error) {
	if err := p.pace.Wait(ctx); err != nil {
		return eventlog.Ack{}, err
	}
	return p.log.Publish(ctx, token, strconv.Itoa(n), []byte("x"))
}
