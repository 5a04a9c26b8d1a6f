package edge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/edge/balance"
	"github.com/neolith/daemon-gateway/internal/ring"
)

const (
	// shedInterval is how often the balance is looked at.
	shedInterval = time.Second
	// shedPatience is how long a daemon that was told to go counts as leaving; one
	// that stays is left alone.
	shedPatience = 30 * time.Second
)

// loads is what balancing needs of the ring.
type loads interface {
	Loads() []ring.Load
	Current() bool
	Self() ring.Member
}

// shedder asks daemons to reconnect while this edge holds clearly more
// connections than the others: those that are connected longest, so that a
// daemon is not moved again before all others have been. Its methods belong to
// the goroutine of Run.
type shedder struct {
	loads       loads
	connections func() []*connection
	after       time.Duration // how long a connection must have been up
	balancer    *balance.Balancer
	metrics     *metrics
	logger      *slog.Logger
	asked       chan planAsked

	queue []*connection // to be told next, longest connected first
	told  []leaver      // not gone yet, as far as is known
}

// planAsked is an operator's question, answered by the goroutine of Run.
type planAsked struct {
	begin bool // to do it as well
	plan  chan<- balance.Plan
}

// leaver is a connection that was told to go.
type leaver struct {
	connection *connection
	at         time.Time
}

func newShedder(cfg BalanceConfig, l loads, connections func() []*connection, m *metrics, logger *slog.Logger) *shedder {
	return &shedder{
		loads: l, connections: connections, after: cfg.BalanceAfter, metrics: m, logger: logger, asked: make(chan planAsked),
		balancer: balance.New(balance.Config{
			Rate: cfg.BalanceRate, Minimum: cfg.BalanceMinimum, After: cfg.BalanceAfter,
		}),
	}
}

// Run looks at the balance every second until ctx ends.
func (s *shedder) Run(ctx context.Context) error {
	ticker := time.NewTicker(shedInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			s.look(now)
		case ask := <-s.asked:
			ask.plan <- s.answer(ask.begin, time.Now())
		}
	}
}

// errNotServing says that nobody looks at the balance, since the edge starts or ends.
var errNotServing = errors.New("this edge serves no daemons at the moment")

// plan returns what would be sent away now, and begins with it if that is wanted. It
// may be called by any goroutine.
func (s *shedder) plan(ctx context.Context, begin bool) (balance.Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, shedInterval)
	defer cancel()
	plan := make(chan balance.Plan, 1)
	select {
	case s.asked <- planAsked{begin, plan}:
		return <-plan, nil
	case <-ctx.Done():
		return balance.Plan{}, errNotServing
	}
}

func (s *shedder) answer(begin bool, now time.Time) balance.Plan {
	if begin {
		s.queue = nil
		return s.balancer.Begin(s.view(now))
	}
	return s.balancer.Plan(s.view(now))
}

func (s *shedder) look(now time.Time) {
	d := s.balancer.Tick(s.view(now), now)
	s.log(d)
	if d.Tell == 0 {
		s.queue = nil
		return
	}
	chosen := s.choose(d.Tell, now)
	for i, c := range chosen {
		c.moveAway(shedInterval*time.Duration(i)/time.Duration(len(chosen)), now)
		s.told = append(s.told, leaver{c, now})
	}
	s.balancer.Told(len(chosen))
	s.metrics.shed.Add(float64(len(chosen)))
}

// view is what the directory shows, and who is about to leave.
func (s *shedder) view(now time.Time) balance.View {
	s.told = slices.DeleteFunc(s.told, func(l leaver) bool {
		_, up := l.connection.upSince()
		return !up || now.Sub(l.at) > shedPatience
	})
	v := balance.View{Self: s.loads.Self().Name, Leaving: len(s.told), Current: s.loads.Current()}
	for _, l := range s.loads.Loads() {
		v.Edges = append(v.Edges, balance.Edge{Name: l.Name, Connections: l.Connections, Draining: l.Draining})
	}
	return v
}

// choose takes up to n connections that have been up for long enough, those
// that have been longest first.
func (s *shedder) choose(n int, now time.Time) []*connection {
	if len(s.queue) == 0 {
		s.queue = s.longestConnected(now)
	}
	var chosen []*connection
	for len(s.queue) > 0 && len(chosen) < n {
		if c := s.queue[0]; s.movable(c, now) {
			chosen = append(chosen, c)
		}
		s.queue = s.queue[1:]
	}
	return chosen
}

func (s *shedder) movable(c *connection, now time.Time) bool {
	since, up := c.upSince()
	return up && now.Sub(since) >= s.settled()
}

// settled is for how long a connection must have been up. An operator who wants
// balance now means also those that have come just before.
func (s *shedder) settled() time.Duration {
	if s.balancer.Urgent() {
		return 0
	}
	return s.after
}

func (s *shedder) longestConnected(now time.Time) []*connection {
	type aged struct {
		*connection
		since time.Time
	}
	var all []aged
	for _, c := range s.connections() {
		if since, up := c.upSince(); up && now.Sub(since) >= s.settled() {
			all = append(all, aged{c, since})
		}
	}
	slices.SortFunc(all, func(a, b aged) int { return a.since.Compare(b.since) })
	queue := make([]*connection, len(all))
	for i, a := range all {
		queue[i] = a.connection
	}
	return queue
}

func (s *shedder) log(d balance.Decision) {
	attributes := []any{"connections", d.Own, "mean", int(d.Mean)}
	switch d.Step {
	case balance.Began:
		s.logger.Info("holding more connections than other edges, sending some away", attributes...)
	case balance.Balanced:
		s.logger.Info("connections are balanced", attributes...)
	case balance.GaveUp:
		s.logger.Warn("sending connections away did not spread them better, giving up for a while: see to the load balancer", attributes...)
	case balance.Stopped:
		s.logger.Info("edges have changed, waiting before balancing goes on", attributes...)
	case balance.None:
	}
}
