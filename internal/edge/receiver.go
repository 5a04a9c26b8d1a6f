package edge

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// receiverQueue is how many batches wait for each worker; beyond that they
	// wait in the NATS client.
	receiverQueue = 64
	// pendingBatchBytes bounds what waits in the NATS client. What is dropped
	// there gets no receipt, and comes again as a hint.
	pendingBatchBytes = 64 << 20
)

// receiver takes what routers forward and hands it to the connections. Handing
// over never waits for a client, so a batch is answered within milliseconds.
type receiver struct {
	nc       *nats.Conn
	hub      *hub
	canaries *caller
	trace    *trace.Recorder
	metrics  *metrics
	logger   *slog.Logger

	workers sync.WaitGroup
	queues  []chan received
	quit    chan struct{}
}

type received struct {
	batch delivery.Batch
	msg   *nats.Msg
}

func newReceiver(nc *nats.Conn, h *hub, canaries *caller, traces *trace.Recorder, m *metrics, logger *slog.Logger) *receiver {
	in := &receiver{nc: nc, hub: h, canaries: canaries, trace: traces, metrics: m, logger: logger, quit: make(chan struct{})}
	for range runtime.GOMAXPROCS(0) {
		in.queues = append(in.queues, make(chan received, receiverQueue))
	}
	return in
}

// serve takes batches for the edge with this member name until stop is called,
// which waits until nothing is being handed over any more.
func (in *receiver) serve(edge string) (stop func(), err error) {
	for _, q := range in.queues {
		in.workers.Go(func() { in.work(q) })
	}
	sub, err := in.nc.Subscribe(delivery.Subject(event.TokenOf(edge)), in.take)
	if err == nil {
		err = sub.SetPendingLimits(nats.DefaultSubPendingMsgsLimit, pendingBatchBytes)
	}
	stop = func() {
		if sub != nil {
			_ = sub.Unsubscribe() // the connection may be gone already
		}
		close(in.quit)
		in.workers.Wait()
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("subscribe to batches: %w", err)
	}
	return stop, nil
}

// take decodes a batch and queues it for its partition's worker, so that the
// batches of one partition stay in order.
func (in *receiver) take(msg *nats.Msg) {
	batch, err := delivery.Decode(msg.Data)
	if err != nil {
		in.metrics.batches.Of(batchMalformed).Inc()
		in.logger.Error("batch of a router cannot be read; do all nodes run versions that go together?", "error", err)
		return
	}
	if batch.Unknown > 0 {
		in.metrics.batches.Of(batchNewer).Inc()
	}
	select {
	case in.queues[int(batch.Partition)%len(in.queues)] <- received{batch, msg}:
	case <-in.quit:
	}
}

func (in *receiver) work(queue <-chan received) {
	for {
		select {
		case r := <-queue:
			in.handOver(r)
		case <-in.quit:
			return
		}
	}
}

func (in *receiver) handOver(r received) {
	now := time.Now()
	events, arrival := len(r.batch.Events), in.arrival(r.batch, now)
	for _, f := range r.batch.Events {
		if in.canaries.forwarded(r.batch.Epoch, f, now) {
			events-- // no user's
			continue
		}
		candidate := session.NewCandidate(f.Message)
		candidate.Came(arrival)
		for _, c := range in.hub.connections(f.Token) {
			c.forwarded(r.batch.Epoch, candidate, f.After)
		}
	}
	for _, h := range r.batch.Hints {
		for _, c := range in.hub.connections(h.Token) {
			c.hint(r.batch.Epoch, h.Sequence)
		}
	}
	in.metrics.batches.Of(batchOK).Inc()
	in.metrics.forwarded.Add(float64(events))
	in.metrics.hints.Add(float64(len(r.batch.Hints)))
	if err := r.msg.Respond(nil); err != nil {
		in.logger.Debug("receipt not sent, the router sends the batch again", "error", err)
	}
}
