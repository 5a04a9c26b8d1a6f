package traffic

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Crowd is the daemons of a run: seats, each of which one daemon after the other
// takes. Its methods may be called at the same time, but for Stir and Calm,
// which are called one after the other.
type Crowd struct {
	ledger *ledger.Ledger
	urls   []string
	secret settings.Secret

	calm     context.CancelFunc // nil while nobody comes and goes
	moving   sync.WaitGroup
	mu       sync.Mutex
	seats    []*Seat
	deserted []*Daemon
	refused  []string
}

// NewCrowd returns a crowd of nobody, whose daemons connect to some URLs with
// tokens that a secret signs.
func NewCrowd(l *ledger.Ledger, urls []string, secret settings.Secret) *Crowd {
	return &Crowd{ledger: l, urls: urls, secret: secret}
}

// Everything subscribes to all events.
func Everything() protocol.Subscribe {
	return protocol.Subscribe{EventTypes: []protocol.Pattern{protocol.AllEvents}}
}

// Add lays out a seat for a daemon of an orchestrator that subscribes to some
// events, by default to all. Nobody takes it before it is entered, and until
// then its profile may be changed.
func (c *Crowd) Add(orchestrator protocol.OrchestratorID, h Habit, subscribes ...protocol.Subscribe) *Seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := 0
	for _, s := range c.seats {
		if s.Profile.Orchestrator == orchestrator {
			number++
		}
	}
	if len(subscribes) == 0 {
		subscribes = []protocol.Subscribe{Everything()}
	}
	name := fmt.Sprintf("%s#%d", orchestrator, number)
	s := &Seat{Number: number, Habit: h, crowd: c, Profile: Profile{
		Seat: ledger.Seat(name), Orchestrator: orchestrator, Daemon: protocol.DaemonID("daemon_" + name),
		Subscribes: subscribes, Secret: c.secret,
	}}
	if h.Handle != nil {
		s.Profile.Handle = func(ctx context.Context, e protocol.Event) error { return h.Handle(ctx, s, e) }
	}
	s.Turn(len(c.seats))
	c.seats = append(c.seats, s)
	return s
}

// Seats returns all seats, in the order in which they were added; with habits
// those of one of these names.
func (c *Crowd) Seats(habits ...string) []*Seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.seats), func(s *Seat) bool {
		return len(habits) > 0 && !slices.Contains(habits, s.Habit.Name)
	})
}

// Enter has daemons take seats that are empty, all at once, and waits until they
// are subscribed.
func (c *Crowd) Enter(ctx context.Context, seats ...*Seat) error {
	for _, s := range seats {
		if err := s.Enter(); err != nil {
			return err
		}
	}
	for _, s := range seats {
		if err := s.AwaitSubscribed(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Waves returns seats by their number: those of one orchestrator are in
// different waves. Where they enter one wave after the other, no daemon is
// taken for the successor of another one that comes at the same moment.
func Waves(seats []*Seat) (waves [][]*Seat) {
	for _, s := range seats {
		for len(waves) <= s.Number {
			waves = append(waves, nil)
		}
		waves[s.Number] = append(waves[s.Number], s)
	}
	return waves
}

// Leave has daemons leave gracefully, side by side.
func (c *Crowd) Leave(seats ...*Seat) {
	var leaving sync.WaitGroup
	for _, s := range seats {
		leaving.Go(s.Leave)
	}
	leaving.Wait()
}

// Present counts the seats that are taken.
func (c *Crowd) Present() (n int) {
	for _, s := range c.Seats() {
		if s.Daemon() != nil {
			n++
		}
	}
	return n
}

// Stir has every daemon come and go as is its habit, until Calm.
func (c *Crowd) Stir() {
	ctx, cancel := context.WithCancel(context.Background())
	c.calm = cancel
	for _, s := range c.Seats() {
		if s.Habit.Move != nil {
			c.moving.Go(func() { s.Habit.Move(ctx, s) })
		}
	}
}

// Calm ends the coming and going.
func (c *Crowd) Calm() {
	if c.calm != nil {
		c.calm()
		c.moving.Wait()
		c.calm = nil
	}
}

// Close ends the coming and going, and has everybody leave.
func (c *Crowd) Close() {
	c.Calm()
	c.Leave(c.Seats()...)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.deserted {
		_ = d.Stop() // whatever became of it meanwhile
	}
	c.deserted = nil
}

func (c *Crowd) desert(d *Daemon) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deserted = append(c.deserted, d)
}

// Refused returns which daemons the gateway had sent away for good when they
// were to leave: findings.
func (c *Crowd) Refused() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.refused)
}

func (c *Crowd) refuse(d protocol.DaemonID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = append(c.refused, fmt.Sprintf("daemon %s was sent away for good: %v", d, err))
}
