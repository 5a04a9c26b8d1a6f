package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// habit is how a daemon behaves.
type habit string

const (
	// steady daemons acknowledge what they get.
	steady habit = "steady"
	// holding ones acknowledge nothing until release.
	holding habit = "holding"
	// sleeping ones leave before the backup and come back after the disaster.
	sleeping habit = "sleeping"
	// resuming ones say themselves where they stand.
	resuming habit = "resuming"
)

// habits are those of a crew's daemons, each of an orchestrator of its own.
// Those of even number are published to on Redis, the others on JetStream.
var habits = []habit{
	steady, steady, steady, steady, holding, holding, sleeping, sleeping, resuming, resuming, steady, steady,
}

// crew is the daemons of an exercise and what they have seen.
type crew struct {
	w      *world
	name   string
	ledger *ledger.Ledger
	seats  []*seat
	press  *press
}

// seat is a daemon that may leave and come back.
type seat struct {
	number  int
	habit   habit
	profile traffic.Profile
	daemon  *traffic.Daemon // nil while it is away

	mu        sync.Mutex
	withholds bool                         // acknowledges nothing
	position  string                       // of the last event
	stood     map[string]eventlog.Position // by event, as of its last receipt
	receipts  map[string][]time.Time       // by event
	acked     map[string]time.Time         // by event, the first time
}

func orchestrator(exercise string, n int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("vp_%s_%d", exercise, n))
}

// everybody is the orchestrators of all exercises, as Neolith has them.
func everybody() (all []testserver.Orchestrator) {
	for _, x := range exercises() {
		for n := range habits {
			id := string(orchestrator(x.name, n))
			all = append(all, testserver.Orchestrator{ID: id, User: "user_" + id})
		}
	}
	return all
}

// newCrew brings in the daemons and begins to publish.
func newCrew(ctx context.Context, w *world, name string) (*crew, error) {
	c := &crew{w: w, name: name, ledger: ledger.New()}
	for n, h := range habits {
		c.seats = append(c.seats, c.seat(n, h))
	}
	for _, s := range c.seats {
		if err := c.enter(s); err != nil {
			c.leave()
			return nil, err
		}
	}
	err := c.awaitSubscribed(ctx)
	if err == nil {
		c.press, err = newPress(c)
	}
	if err != nil {
		c.leave()
		return nil, err
	}
	c.press.start()
	return c, nil
}

func (c *crew) seat(n int, h habit) *seat {
	var urls []string
	for i := range c.w.Edges {
		urls = append(urls, c.w.Edges[(n+i)%len(c.w.Edges)].URL)
	}
	id := orchestrator(c.name, n)
	s := &seat{
		number: n, habit: h, withholds: h == holding,
		stood: make(map[string]eventlog.Position), receipts: make(map[string][]time.Time), acked: make(map[string]time.Time),
	}
	s.profile = traffic.Profile{
		Seat: ledger.Seat(id), Orchestrator: id, Daemon: protocol.DaemonID("daemon_" + id), URLs: urls, Secret: cluster.Secret,
		Subscribes: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		Handle:     func(_ context.Context, e protocol.Event) error { return s.handle(e) },
		OnFrame:    s.frame,
	}
	if h == resuming {
		s.profile.Resume = func() string {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.position
		}
	}
	return s
}

// frame notes the events that come, repeats too, of which the handler does not
// hear.
func (s *seat) frame(f client.Frame) {
	if f.Sent || f.Type != protocol.TypeEvent {
		return
	}
	m, err := protocol.ParseServerMessage(f.Data)
	if err != nil {
		return // the ledger says so
	}
	e := m.Payload.(*protocol.Event)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = e.Position
	s.stood[e.EventID], _ = eventlog.ParsePosition(e.Position)
	s.receipts[e.EventID] = append(s.receipts[e.EventID], time.Now())
}

func (s *seat) handle(e protocol.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.withholds {
		return client.ErrNoAck
	}
	if _, before := s.acked[e.EventID]; !before {
		s.acked[e.EventID] = time.Now()
	}
	return nil
}

// ackedBy reports whether an event was acknowledged by a time.
func (s *seat) ackedBy(id string, when time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.acked[id]
	return ok && !at.After(when)
}

// firstReceipt is when an event first came; zero if it has not.
func (s *seat) firstReceipt(id string) (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.receipts[id]; len(all) > 0 {
		at = all[0]
	}
	return at
}

// standsAt is where an event stood when it was last received.
func (s *seat) standsAt(id string) eventlog.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stood[id]
}

// receivedAfter counts the receipts of an event after a time.
func (s *seat) receivedAfter(id string, when time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.receipts[id] {
		if at.After(when) {
			n++
		}
	}
	return n
}

// enter brings a daemon in that is away.
func (c *crew) enter(s *seat) (err error) {
	if s.daemon != nil {
		return nil
	}
	s.daemon, err = traffic.StartDaemon(c.ledger, s.profile)
	return err
}

// having calls f for the daemons of a habit.
func (c *crew) having(h habit, f func(*seat) error) error {
	for _, s := range c.seats {
		if s.habit != h {
			continue
		}
		if err := f(s); err != nil {
			return err
		}
	}
	return nil
}

// sleep has the sleeping daemons leave in order.
func (c *crew) sleep() error {
	return c.having(sleeping, func(s *seat) error {
		err := s.daemon.Stop()
		s.daemon = nil
		return err
	})
}

// wake has them come back, and the holding ones acknowledge what they have got.
func (c *crew) wake() error {
	_ = c.having(holding, func(s *seat) error {
		s.daemon.Ack(s.release()...)
		return nil
	})
	return c.having(sleeping, c.enter)
}

// release withholds nothing any more. It returns what was received and not
// acknowledged, and takes it for acknowledged.
func (s *seat) release() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withholds = false
	for id := range s.receipts {
		if _, done := s.acked[id]; !done {
			s.acked[id] = time.Now()
			ids = append(ids, id)
		}
	}
	return ids
}

func (c *crew) awaitSubscribed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, s := range c.seats {
		if s.daemon == nil {
			continue
		}
		if err := s.daemon.AwaitSubscribed(ctx); err != nil {
			return err
		}
	}
	return nil
}

// present are the orchestrators whose daemons have not left.
func (c *crew) present() (ids []string) {
	for _, s := range c.seats {
		if s.daemon != nil {
			ids = append(ids, string(s.profile.Orchestrator))
		}
	}
	return ids
}

// awaitConnected waits until edges hold all daemons that have not left.
func (c *crew) awaitConnected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	want := float64(len(c.present()))
	return until(ctx, "not all daemons are back", func() (bool, error) {
		held := 0.0
		for _, n := range c.w.Edges {
			connections, err := n.Metric(ctx, "gateway_connections", `state="subscribed"`)
			if err != nil {
				return false, err
			}
			held += connections
		}
		return held >= want, nil
	})
}

// awaitDelivered waits until nothing is missing of what the log holds; what is
// missing then is for the judge.
func (c *crew) awaitDelivered(ctx context.Context) error {
	for end := time.Now().Add(patience); time.Now().Before(end); wait(ctx, 250*time.Millisecond) {
		if err := c.w.log.Record(ctx, c.ledger, partitions); err != nil {
			return err
		}
		if len(c.ledger.Outstanding(ledger.Promise{})) == 0 {
			return nil
		}
	}
	return nil
}

// stored counts what the log holds of the crew's orchestrators, everything twice
// that it holds twice.
func (c *crew) stored(ctx context.Context) (n uint64, err error) {
	for p := range event.Partition(partitions) {
		s, err := c.w.log.JetStream().Stream(ctx, event.StreamName(p))
		if err != nil {
			return 0, err
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(event.Subject(p, "*")))
		if err != nil {
			return 0, err
		}
		for _, seat := range c.seats {
			n += info.State.Subjects[event.Subject(p, event.TokenOf(seat.profile.Orchestrator))]
		}
	}
	return n, nil
}

// judge ends publishing, waits for what was published from a time on, and notes
// what the ledger says of everything, except for what is expected.
func (c *crew) judge(ctx context.Context, from time.Time, expected func(ledger.Violation) bool) error {
	if err := c.press.finish(ctx, from); err != nil {
		return err
	}
	if err := c.press.stored(ctx, from); err != nil {
		return err
	}
	if err := c.awaitDelivered(ctx); err != nil {
		return err
	}
	r := c.ledger.Check(ledger.Promise{})
	var failed []string
	for _, v := range r.Violations {
		if expected == nil || !expected(v) {
			failed = append(failed, v.String())
		}
	}
	c.w.report.promise(r.Published, failed, "the ledger's judgement of all that was published: %d receipts, %d acks", r.Receipts, r.Acks)
	c.leave()
	return nil
}

func (c *crew) leave() {
	if c.press != nil {
		c.press.close()
	}
	var leaving sync.WaitGroup
	for _, s := range c.seats {
		if s.daemon != nil {
			leaving.Go(func() { _ = s.daemon.Stop() })
		}
	}
	leaving.Wait()
}
