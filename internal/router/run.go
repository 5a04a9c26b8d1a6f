package router

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// source is what a run needs of the event log.
type source interface {
	Refresh(ctx context.Context, p event.Partition) (eventlog.State, error)
	Compare(ctx context.Context, p event.Partition, epoch eventlog.Epoch, mark eventlog.Mark) (eventlog.State, eventlog.Standing, error)
	RaiseEpoch(ctx context.Context, p event.Partition, seen eventlog.Epoch) (eventlog.Epoch, error)
	Follow(ctx context.Context, p event.Partition, from uint64, handle func(eventlog.Message) error, options ...eventlog.FollowOption) error
	Publish(ctx context.Context, orchestrator event.Token, eventID string, body []byte) (eventlog.Ack, error)
	EachHead(ctx context.Context, p event.Partition, token event.Token, from uint64, maxBytes int, yield func(eventlog.Head)) (more bool, err error)
	DeadLetter(ctx context.Context, letter eventlog.DeadLetter) error
	LoadCheckpoint(ctx context.Context, p event.Partition) (eventlog.Checkpoint, bool, error)
	SaveCheckpoint(ctx context.Context, p event.Partition, c eventlog.Checkpoint) error
	RenewSentinel(ctx context.Context, p event.Partition) error
}

// routing is what all partitions of a router share.
type routing struct {
	cfg      Config
	timing   timing
	log      source
	requests *requests
	holders  func(dst []string, orchestrator event.Token) []string
	trace    *trace.Recorder
	metrics  *metrics
	logger   *slog.Logger
}

// Why a run ends.
var (
	errStopped      = errors.New("stopped")
	errEpochChanged = errors.New("the partition's epoch has changed")
)

// run is the life of one lane and the goroutines around it:
//
//	log ─follow─▶ events ─▶ loop (the lane) ─▶ requests ─▶ edges
//	                         ▲   │  └─▶ letters ─store─▶ dead letters
//	 claims, receipts ─▶ inputs  └─▶ checkpoint ─keep─▶ log
//	                                 position ─watch─▶ compared with the log
//
// It ends when the partition is handed over, or with its epoch.
type run struct {
	*routing
	partition event.Partition
	epoch     eventlog.Epoch
	number    uint64
	logger    *slog.Logger

	// Owned by loop.
	lane      *lane.Lane
	sent      map[lane.BatchID]sentBatch
	deadlines []deadline
	subjects  map[string]string
	buffer    []byte
	effects   []lane.Effect

	inputs  chan func(*lane.Lane)
	events  chan eventlog.Message
	letters chan lane.DeadLetter
	kicks   chan struct{} // asks watch to look now
	// misplaced limits what is logged of events that were moved.
	misplaced rate.Sometimes
	ended     chan struct{} // closed when loop has returned

	fed        atomic.Uint64 // last sequence given to events
	checkpoint atomic.Uint64 // the lane's
	position   atomic.Uint64 // the lane's
	last       atomic.Uint64 // of the log, as watch has seen it
	refused    atomic.Int64  // the lane's, that wait for the dead letters

	mu    sync.Mutex
	reset context.CancelCauseFunc // ends the consumer under way
	began time.Time               // when that began; zero: there is none
	mark  eventlog.Mark           // the newest message seen

	verifying sync.Mutex // held by verify
}

// letterRoom is more dead letters than a lane has under way.
const letterRoom = 512

func newRun(routing *routing, p event.Partition, epoch eventlog.Epoch, start uint64) *run {
	r := &run{
		routing:   routing,
		partition: p,
		epoch:     epoch,
		logger:    routing.logger.With("partition", int(p)),
		sent:      make(map[lane.BatchID]sentBatch),
		subjects:  make(map[string]string),
		inputs:    make(chan func(*lane.Lane), routing.cfg.FetchBatch),
		events:    make(chan eventlog.Message, routing.cfg.FetchBatch),
		letters:   make(chan lane.DeadLetter, letterRoom),
		kicks:     make(chan struct{}, 1),
		misplaced: rate.Sometimes{First: 3, Interval: time.Minute},
		ended:     make(chan struct{}),
	}
	r.lane = lane.New(lane.Config{
		Partition: p, Epoch: epoch, Start: start, Now: time.Now(),
		Holders:  routing.holders,
		Check:    lane.CheckEvent(int(routing.cfg.Log.MaxEventBytes), p, routing.cfg.Log.Partitions, routing.metrics.takenWithout),
		Inflight: routing.cfg.ForwardInflight,
	})
	for _, v := range []*atomic.Uint64{&r.fed, &r.checkpoint, &r.position} {
		v.Store(start)
	}
	return r
}

// do runs the partition. When stop ends, it takes no more events, waits for
// the receipts of what it has sent and saves the checkpoint; when base ends,
// it just ends. It returns errStopped, errEpochChanged, or nil after base.
func (r *run) do(stop, base context.Context) error {
	r.requests.add(r)
	defer r.requests.remove(r)
	group, ctx := errgroup.WithContext(base)
	feeding, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	defer context.AfterFunc(stop, stopFeeding)()
	group.Go(func() error { return r.follow(feeding) })
	group.Go(func() error { return r.loop(ctx, stop.Done()) })
	group.Go(func() error { return r.storeLetters(ctx) })
	group.Go(func() error { return r.keep(ctx) })
	group.Go(func() error { return r.watch(ctx) })
	err := group.Wait()
	if errors.Is(err, errStopped) {
		r.checkpoint.Store(r.lane.Checkpoint())
		r.save(base, r.toSave())
	}
	return err
}

// tell gives the lane an input, in the loop's goroutine. It waits for its turn
// and gives up when the run has ended.
func (r *run) tell(input func(*lane.Lane)) {
	select {
	case r.inputs <- input:
	case <-r.ended:
	}
}

// loop owns the lane.
func (r *run) loop(ctx context.Context, stop <-chan struct{}) error {
	defer close(r.ended)
	ticker := time.NewTicker(r.timing.tick)
	defer ticker.Stop()
	var bound <-chan time.Time
	for {
		events := r.events
		var held <-chan time.Time
		if hold := r.lane.Hold(); hold > 0 {
			events, held = nil, time.After(hold)
		}
		if bound != nil {
			events = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-stop:
			stop, bound = nil, time.After(r.cfg.ForwardTimeout)
		case <-bound:
			return errStopped
		case m := <-events:
			r.take(m)
		case input := <-r.inputs:
			input(r.lane)
			r.hear()
		case <-held:
		case now := <-ticker.C:
			r.tick(now)
		}
		r.lane.Tick(time.Now())
		r.carryOut()
		r.position.Store(r.lane.Position())
		if bound != nil && r.lane.Idle() {
			return errStopped
		}
	}
}

// take feeds the lane what the consumer has at hand, so that a batch gets as
// large as it may without waiting. Whatever is received is fed: an event that
// the lane does not see makes its claims about gaps false (invariant 1).
func (r *run) take(m eventlog.Message) {
	for fed := 1; ; fed++ {
		disposition := r.lane.Event(m)
		if !m.Token.Reserved() { // what dashboards count is users' events
			r.metrics.disposed(disposition)
		}
		if disposition == lane.Queued {
			r.traceUnclaimed(m)
		}
		if fed >= r.cfg.FetchBatch || r.lane.Hold() > 0 {
			return
		}
		select {
		case m = <-r.events:
		default:
			return
		}
	}
}

// hear feeds the lane the inputs at hand.
func (r *run) hear() {
	for range cap(r.inputs) {
		select {
		case input := <-r.inputs:
			input(r.lane)
		default:
			return
		}
	}
}

func (r *run) tick(now time.Time) {
	// Receipts that wait come before the timeouts that they prevent.
	r.hear()
	r.sweep(now)
	r.checkpoint.Store(r.lane.Checkpoint())
	r.metrics.lagging.WithLabelValues(label(r.partition)).Set(float64(r.lane.Lagging()))
	r.metrics.refused.WithLabelValues(label(r.partition)).Set(float64(r.lane.Refused()))
	r.refused.Store(int64(r.lane.Refused()))
}

func (r *run) carryOut() {
	r.effects = r.lane.Take(r.effects[:0])
	for _, effect := range r.effects {
		switch e := effect.(type) {
		case lane.Send:
			r.send(e)
		case lane.DeadLetter:
			select {
			case r.letters <- e:
			default:
				r.lane.DeadLettered(e.Message.Sequence, false)
			}
		}
	}
	clear(r.effects)
}

// sentBatch is one that waits for its receipt.
type sentBatch struct {
	at   time.Time
	send lane.Send
}

// deadline is when a batch that was sent counts as unanswered. All batches
// have the same time, so deadlines are in order.
type deadline struct {
	id lane.BatchID
	at time.Time
}

func (r *run) send(s lane.Send) {
	now := time.Now()
	r.count(s, now)
	r.sent[s.ID] = sentBatch{now, s}
	r.deadlines = append(r.deadlines, deadline{id: s.ID, at: now.Add(r.cfg.ForwardTimeout)})
	r.traceForwarded(&s, now)
	r.buffer = s.Batch.Encode(r.buffer[:0])
	if err := r.requests.send(r.subject(s.Edge), r.number, s.ID, r.buffer); err != nil {
		// NATS is away: as if nobody had been there, so that hints follow soon.
		r.logger.Debug("batch not sent", "edge", s.Edge, "error", err)
		r.receipt(s.ID, lane.NoResponders)
	}
}

func (r *run) count(s lane.Send, now time.Time) {
	if s.Attempt > 1 {
		return
	}
	r.metrics.hints.Add(float64(len(s.Batch.Hints)))
	events, newest := 0, (*delivery.Forwarded)(nil)
	for i := range s.Batch.Events {
		if f := &s.Batch.Events[i]; !f.Token.Reserved() {
			events, newest = events+1, f
		}
	}
	r.metrics.forwarded.Add(float64(events))
	if newest != nil {
		metric.Observe(r.metrics.routing, max(0, now.Sub(newest.Stored).Seconds()), newest.Trace.ID())
	}
}

// subject remembers the subjects of edges; few are ever seen in a run.
func (r *run) subject(edge string) string {
	subject, ok := r.subjects[edge]
	if !ok {
		subject = delivery.Subject(event.TokenOf(edge))
		r.subjects[edge] = subject
	}
	return subject
}

// receipt tells the lane what became of a batch.
func (r *run) receipt(id lane.BatchID, outcome lane.Outcome) {
	if sent, ok := r.sent[id]; ok {
		delete(r.sent, id)
		r.metrics.batches.Of(outcomeNames[outcome]).Inc()
		if outcome == lane.Received {
			r.metrics.receipts.Observe(time.Since(sent.at).Seconds())
		} else {
			r.traceUnconfirmed(sent, outcome)
		}
	}
	r.lane.Receipt(id, outcome)
}

// sweep finds the batches that nobody answered in time.
func (r *run) sweep(now time.Time) {
	n := 0
	for ; n < len(r.deadlines) && !now.Before(r.deadlines[n].at); n++ {
		if id := r.deadlines[n].id; r.unanswered(id) {
			r.receipt(id, lane.TimedOut)
		}
	}
	r.deadlines = append(r.deadlines[:0], r.deadlines[n:]...)
}

// resend has every batch that waits for its receipt count as unanswered now.
func (r *run) resend() {
	r.tell(func(*lane.Lane) {
		for _, d := range r.deadlines {
			if r.unanswered(d.id) {
				r.receipt(d.id, lane.TimedOut)
			}
		}
		// Those that are sent again get new ones.
		r.deadlines = r.deadlines[:0]
	})
}

func (r *run) unanswered(id lane.BatchID) bool {
	_, ok := r.sent[id]
	return ok
}
