package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Config says how many daemons there are, and what they do.
type Config struct {
	// URLs are taken in turn: of edges, or of what takes their place.
	URLs []string
	// Secret signs the tokens.
	Secret settings.Secret
	// TLS is how they connect; nil: without.
	TLS *tls.Config
	// Daemons is their number, each of an orchestrator of its own, and First the
	// number of the first one.
	Daemons, First int
	// Dials is how many connect at a time; 0: 128.
	Dials int
	// Unconfirmed says that nobody answers a subscribe.
	Unconfirmed bool
	// Heartbeats is the time between two of a daemon; 0: 30 s.
	Heartbeats time.Duration
}

const (
	// ackInterval is how long acks are gathered, as daemons do.
	ackInterval = 50 * time.Millisecond
	// stuck is how long nothing may come before that is an error.
	stuck = 2 * time.Minute
)

// Fleet is daemons that are connected, and what they have seen.
type Fleet struct {
	cfg     Config
	daemons []*daemon
	opened  time.Duration

	came     atomic.Int64 // events, each counted once
	arrivals chan struct{}
	closing  atomic.Bool
	failed   chan error
	tasks    sync.WaitGroup
	stop     chan struct{}

	mu      sync.Mutex
	waiting []*daemon // with acks to be sent; guarded by mu
}

// Open connects all daemons, and returns when each has subscribed to all events.
// Their tokens are signed before the first one connects.
func Open(ctx context.Context, cfg Config) (*Fleet, error) {
	if cfg.Dials == 0 {
		cfg.Dials = 128
	}
	if cfg.Heartbeats == 0 {
		cfg.Heartbeats = 30 * time.Second
	}
	f := &Fleet{cfg: cfg, failed: make(chan error, 1), stop: make(chan struct{}), arrivals: make(chan struct{}, 1)}
	for i := range cfg.Daemons {
		d, err := f.daemon(i)
		if err != nil {
			return nil, err
		}
		f.daemons = append(f.daemons, d)
	}
	runtime.GC() // so that none falls into what is measured
	began := time.Now()
	if err := f.connect(ctx); err != nil {
		f.Close()
		return nil, err
	}
	f.opened = time.Since(began)
	f.tasks.Go(f.acknowledge)
	f.tasks.Go(f.beat)
	return f, nil
}

// Orchestrator names the orchestrator of a daemon.
func Orchestrator(daemon int) protocol.OrchestratorID {
	return protocol.OrchestratorID("vp_" + strconv.Itoa(daemon))
}

func (f *Fleet) daemon(i int) (*daemon, error) {
	to, err := url.Parse(f.cfg.URLs[i%len(f.cfg.URLs)])
	if err != nil {
		return nil, err
	}
	i += f.cfg.First
	d := &daemon{fleet: f, index: i, url: to, id: protocol.DaemonID("daemon_" + strconv.Itoa(i)), orchestrator: Orchestrator(i)}
	now := time.Now()
	d.token, err = auth.Mint(f.cfg.Secret, auth.Grant{
		Orchestrator: d.orchestrator, Daemon: d.id, IssuedAt: now, ExpiresAt: now.Add(time.Hour),
		Issuer: "neolith-platform", Audience: "neolith-api", TokenID: strconv.Itoa(i),
	})
	return d, err
}

// connect opens all daemons, some at a time, up to the first failure.
func (f *Fleet) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var dialers sync.WaitGroup
	var next atomic.Int64
	for range min(f.cfg.Dials, len(f.daemons)) {
		dialers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(f.daemons) || ctx.Err() != nil {
					return
				}
				if err := f.daemons[i].open(ctx); err != nil {
					cancel(fmt.Errorf("daemon %d: %w", i, err))
					return
				}
				f.tasks.Go(f.daemons[i].read)
			}
		})
	}
	dialers.Wait()
	return context.Cause(ctx)
}

// Opened is how long it took until all had connected and subscribed.
func (f *Fleet) Opened() time.Duration { return f.opened }

// Came is how many events have come so far, repeats not counted.
func (f *Fleet) Came() int64 { return f.came.Load() }

// Err is why a daemon has lost its connection, if one has.
func (f *Fleet) Err() error {
	select {
	case err := <-f.failed:
		f.fail(err)
		return err
	default:
		return nil
	}
}

func (f *Fleet) fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}

// Await waits until n events have come, or none comes any more.
func (f *Fleet) Await(ctx context.Context, n int64) error {
	timer := time.NewTimer(stuck)
	defer timer.Stop()
	for f.came.Load() < n {
		timer.Reset(stuck)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.failed:
			f.fail(err)
			return err
		case <-f.arrivals:
		case <-timer.C:
			return fmt.Errorf("nothing has come for %s, %d of %d events are there", stuck, f.came.Load(), n)
		}
	}
	return nil
}

// Seen is what the daemons have seen.
type Seen struct {
	// Repeated came more than once, Disordered after a later one of its orchestrator.
	Repeated, Disordered int

	arrivals []arrival
}

// arrival is when an event was published, and how long it took to come.
type arrival struct {
	published int64 // Unix time in ns
	took      time.Duration
}

// Latencies returns how long what was published in a time took, from the publish
// to the read of the frame, in no order.
func (s Seen) Latencies(from, until time.Time) (all []time.Duration) {
	for _, a := range s.arrivals {
		if a.published >= from.UnixNano() && a.published < until.UnixNano() {
			all = append(all, a.took)
		}
	}
	return all
}

// Close ends all connections, and waits until nobody reads any more.
func (f *Fleet) Close() {
	if f.closing.Swap(true) {
		return
	}
	close(f.stop)
	for _, d := range f.daemons {
		d.reset()
	}
	f.tasks.Wait()
}

// Seen closes the fleet and returns what it has seen.
func (f *Fleet) Seen() (s Seen) {
	f.Close()
	for _, d := range f.daemons {
		s.arrivals = append(s.arrivals, d.arrivals...)
		s.Repeated += d.repeated
		s.Disordered += d.disordered
	}
	return s
}

// acknowledge sends the acks that have been gathered.
func (f *Fleet) acknowledge() {
	f.every(ackInterval, func(int) {
		f.mu.Lock()
		waiting := f.waiting
		f.waiting = nil
		f.mu.Unlock()
		for _, d := range waiting {
			d.sendAcks()
		}
	})
}

// beat sends the heartbeats, those of all daemons spread over the time between
// two.
func (f *Fleet) beat() {
	const parts = 100
	f.every(f.cfg.Heartbeats/parts, func(tick int) {
		for i := tick % parts; i < len(f.daemons); i += parts {
			f.daemons[i].sendHeartbeat()
		}
	})
}

func (f *Fleet) every(interval time.Duration, do func(tick int)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for tick := 0; ; tick++ {
		select {
		case <-f.stop:
			return
		case <-ticker.C:
			do(tick)
		}
	}
}

var errLost = errors.New("the connection has ended")
