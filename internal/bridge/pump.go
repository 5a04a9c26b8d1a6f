package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/bridge/sequencer"
	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// window is how many messages are being worked on at once at most, each of
	// another orchestrator.
	window = 1024
	// maxBufferBytes bounds the memory behind PUBLISH_BUFFER, which counts events.
	maxBufferBytes = 256 << 20
	// reconnectPoll is how often a connection that is away is looked at.
	reconnectPoll = 250 * time.Millisecond
)

// workBackoff ends soon: what waits for the log waits for this too when the log
// is back. At most a window of messages is tried at once.
var workBackoff = backoff{first: 100 * time.Millisecond, most: time.Second}

// store is what the pump needs of the event log.
type store interface {
	PublishAsync(ctx context.Context, orchestrator event.Token, eventID string, body []byte, done func(eventlog.Ack, error))
	DeadLetter(ctx context.Context, letter eventlog.DeadLetter) error
	Purged(ctx context.Context, orchestrator event.Token, ack eventlog.Ack) (bool, error)
}

// lookup finds a daemon's orchestrator; errNoSession is final.
type lookup func(context.Context, protocol.DaemonID) (protocol.OrchestratorID, error)

type ticket = sequencer.Ticket[job]

// pump takes what was heard from the inbox into the log: it decodes, lets the
// sequencer decide what may go, and answers for what comes of it. All state
// belongs to the goroutine of run; whatever works beside it hands a func back
// through results, which run calls.
type pump struct {
	inbox  *inbox
	store  store // set by run
	lookup lookup
	// connectedDaemons is asked before lookup; nil where nobody tells who is there.
	connectedDaemons *connectedDaemons
	// book is nil where tokens alone decide.
	book      *addressBook
	connected func() bool
	maxBytes  int // of one event
	// partitions of the log; 1 until it is set, before run.
	partitions int
	trace      *trace.Recorder
	sampler    *tracing.Sampler // nil: no event has a trace
	metrics    *metrics
	audit      *audit.Log // nil: none
	logger     *slog.Logger

	results   chan func()   // has room for all that is under way, so nobody waits to hand in
	submitted chan job      // those that are requests
	ended     chan struct{} // closed when run has returned
	workers   sync.WaitGroup
	held      atomic.Int64 // of the sequencer, for those who only look
	drops     *dropLog
	rejects   rate.Sometimes
	oddities  rate.Sometimes
	faults    rate.Sometimes

	// owned by run
	windows   map[int]*publishWindow    // of partitions
	sequencer *sequencer.Sequencer[job] // what was heard
	requests  *sequencer.Sequencer[job] // what somebody waits for, who bounds it
	daemons   daemonCache
	passing   map[protocol.OrchestratorID]int // events of addressees on their way into the log
	questions []ticket                        // whose addressees are to be asked for
	asking    int                             // batches of them under way
	number    uint64
	batch     [256]heard
}

// newPump returns a pump between the inbox and a log that need not be open yet.
func newPump(in *inbox, find lookup, book *addressBook, connected func() bool, maxEventBytes int, m *metrics, logger *slog.Logger) *pump {
	p := &pump{
		inbox: in, lookup: find, book: book, connected: connected, maxBytes: maxEventBytes, partitions: 1, metrics: m, logger: logger,
		results:   make(chan func(), 2*window+maxAsking),
		submitted: make(chan job), ended: make(chan struct{}),
		windows: map[int]*publishWindow{},
		passing: map[protocol.OrchestratorID]int{},
		drops:   newDropLog(m, logger),
		rejects: rate.Sometimes{First: 5, Interval: 10 * time.Second}, oddities: rate.Sometimes{First: 1, Interval: 10 * time.Minute},
		faults: rate.Sometimes{First: 1, Interval: 10 * time.Second},
	}
	bounds := sequencer.Config{
		Window: window, MaxWaiting: in.maxEvents, MaxBytes: in.maxBytes, Delay: workBackoff.delay, Free: isAddressLane, Group: p.groupOf,
	}
	p.sequencer = sequencer.New[job](bounds)
	bounds.MaxWaiting, bounds.MaxBytes = math.MaxInt, math.MaxInt
	p.requests = sequencer.New[job](bounds)
	return p
}

// run works until the inbox is closed and all that was in it is settled, or
// until ctx ends. It returns how many messages it could not settle. It is
// called once.
func (p *pump) run(ctx context.Context, s store) (left int) {
	p.store = s
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		close(p.ended)
		p.workers.Wait()
	}()
	for {
		open := p.takeIn()
		p.start(ctx)
		p.held.Store(int64(p.sequencer.Len()))
		if !open && p.sequencer.Len() == 0 {
			return 0
		}
		if !p.wait(ctx) {
			return p.sequencer.Len() + p.inbox.len()
		}
	}
}

// depth is how many messages are held, here and in the inbox. It may be called
// from any goroutine.
func (p *pump) depth() int { return p.inbox.lenWith(&p.held) }

// takeIn moves a batch from the inbox into the sequencer; false once there will
// be no more.
func (p *pump) takeIn() (open bool) {
	n, open := p.inbox.take(p.batch[:], &p.held)
	now := time.Now()
	for i := range n {
		h := p.batch[i]
		p.batch[i] = heard{}
		if canary.IsChannel(h.channel) && !p.connected() {
			p.metrics.canary(eventlog.ErrUnavailable) // a stop must not wait for it
			continue
		}
		j := p.book.address(decode(h, p.maxBytes))
		j.at = now
		p.notice(j.event)
		if j.kind == burying {
			p.rejected(j)
		}
		p.number++
		p.dropped(p.sequencer.Add(j.lane(p.number), j, len(j.body)))
	}
	return open
}

// dropped notes what had to make room.
func (p *pump) dropped(jobs []job) {
	for _, j := range jobs {
		p.leave(j)
	}
	p.drops.overflow(len(jobs))
}

// leave takes a job off the accounts of who waits behind whom.
func (p *pump) leave(j job) {
	if j.kind == keeping {
		p.book.waiting.Leave(j.event.OrchestratorID)
	}
	p.passed(j)
}

// start begins what the sequencers allow. While NATS is away nothing is begun:
// it would only fail, what waits can still be dropped for what is newer, and
// requests are not to be held.
func (p *pump) start(ctx context.Context) {
	if p.connected() {
		p.beginAll(ctx, p.sequencer)
		p.beginAll(ctx, p.requests)
	} else {
		for _, j := range p.requests.Drain() {
			p.giveBack(j, eventlog.ErrUnavailable)
		}
	}
	p.ask(ctx)
}

func (p *pump) beginAll(ctx context.Context, s *sequencer.Sequencer[job]) {
	for {
		t, ok := s.Next(time.Now())
		if !ok {
			return
		}
		p.begin(ctx, t)
	}
}

func (p *pump) begin(ctx context.Context, t ticket) {
	if r := t.Value().request; r != nil && r.ctx.Err() != nil {
		p.fail(t, r.ctx.Err())
		return
	}
	switch t.Value().kind {
	case publishing:
		p.publish(ctx, t)
	case resolving:
		p.resolve(ctx, t)
	case addressing:
		p.address(t)
	case keeping:
		p.keep(ctx, t)
	case burying:
		p.bury(ctx, t)
	}
}

// wait blocks until there may be something to do; false when ctx has ended.
func (p *pump) wait(ctx context.Context) bool {
	var wake <-chan time.Time
	if at, ok := p.wakeAt(); !p.connected() {
		wake = time.After(reconnectPoll)
	} else if ok {
		wake = time.After(time.Until(at))
	}
	select {
	case j := <-p.submitted:
		p.submit(j)
		p.takeResults()
	case <-ctx.Done():
		return false
	case f := <-p.results:
		f()
		p.takeResults()
	case <-p.inbox.signal:
		p.takeResults()
	case <-wake:
	}
	return true
}

// wakeAt is when there is something to do without any other cause.
func (p *pump) wakeAt() (time.Time, bool) {
	at, ok := p.sequencer.WakeAt()
	if next, too := p.requests.WakeAt(); too && (!ok || next.Before(at)) {
		return next, true
	}
	return at, ok
}

// takeResults handles those that are there already, without waiting.
func (p *pump) takeResults() {
	for {
		select {
		case f := <-p.results:
			f()
		default:
			return
		}
	}
}

func (p *pump) publish(ctx context.Context, t ticket) {
	e := t.Value().event
	token := event.TokenOf(e.OrchestratorID)
	if r := t.Value().request; r != nil && r.silent[p.partitionOf(token)] {
		p.fail(t, fmt.Errorf("%w: its partition has not answered", eventlog.ErrUnavailable))
		return
	}
	ctx, span := p.traceBegins(ctx, token, t)
	p.workers.Add(1)
	p.store.PublishAsync(ctx, token, e.ID, t.Value().body, func(ack eventlog.Ack, err error) {
		p.results <- func() { p.published(t, span, ack, err) }
		p.workers.Done()
	})
}

func (p *pump) published(t ticket, span *trace.Span, ack eventlog.Ack, err error) {
	p.answered(event.TokenOf(t.Value().event.OrchestratorID), err)
	switch {
	case t.Value().event.OrchestratorID.Reserved():
		// One that comes late says nothing, so it is never tried again.
		p.metrics.canary(err)
		p.sequencer.Done(t)
	case err == nil:
		p.passed(t.Value())
		p.traceStored(t, span, ack)
		p.finish(t, t.Value(), ack)
	case eventlog.Refused(err):
		p.passed(t.Value())
		p.giveUp(t, event.ReasonRefused, err.Error())
	default:
		p.retry(t, err)
	}
}

// finish ends a message that is where it belongs, or a request that is refused.
func (p *pump) finish(t ticket, j job, ack eventlog.Ack) {
	switch {
	case j.request != nil:
		j.request.answer <- settled{job: j, ack: ack}
	case j.kind == publishing && ack.Duplicate:
		p.metrics.duplicates.Inc()
	case j.kind == publishing:
		p.metrics.published.Inc()
	}
	p.of(t).Done(t)
}

// of returns the sequencer that a ticket is from.
func (p *pump) of(t ticket) *sequencer.Sequencer[job] {
	if t.Value().request != nil {
		return p.requests
	}
	return p.sequencer
}

// resolve finds whose daemon an event is for: of one that is connected an edge has
// said it, else Neolith's session in Redis does. What is known is used at once,
// but only here, when the message's turn has come: otherwise a later message
// could pass those that still wait for the first answer.
func (p *pump) resolve(ctx context.Context, t ticket) {
	daemon, now := t.Value().daemon(), time.Now()
	orchestrator, disputed := p.connectedDaemons.find(daemon, now)
	if orchestrator != "" {
		p.daemons.put(daemon, orchestrator, now)
	} else if !disputed {
		orchestrator, _ = p.daemons.get(daemon, now)
	}
	if orchestrator != "" {
		p.resolved(t, orchestrator, nil)
		return
	}
	p.workers.Go(func() {
		orchestrator, err := p.lookup(ctx, daemon)
		p.results <- func() {
			if err == nil {
				p.daemons.put(daemon, orchestrator, time.Now())
			}
			p.resolved(t, orchestrator, err)
		}
	})
}

func (p *pump) resolved(t ticket, orchestrator protocol.OrchestratorID, err error) {
	j := t.Value()
	switch {
	case err == nil:
		j.event.DaemonID = j.daemon()
		p.moveOn(t, p.book.address(readdress(j.event, orchestrator, j.body, p.maxBytes)))
	case !errors.Is(err, errNoSession):
		p.retry(t, err)
	case p.book != nil:
		// Its own orchestrator counts if Neolith has one of that id.
		own := p.book.address(readdress(j.event, j.event.OrchestratorID, j.body, p.maxBytes))
		own.own = own.kind == addressing
		p.moveOn(t, own)
	case j.list != "":
		// Nobody can be asked, and the list has no other name than an orchestrator's.
		p.moveOn(t, readdress(j.event, j.event.OrchestratorID, j.body, p.maxBytes))
	default:
		p.giveUp(t, event.ReasonUnresolvedDaemon, fmt.Sprintf("daemon %q: %v", j.event.DaemonID, err))
	}
}
