package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/load"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// limits measures what the gateway is made of, alone: JetStream with one
// publisher and one consumer, and coder/websocket pushing to connections that
// throw away what comes.
func (b *bench) limits(ctx context.Context, run int) error {
	b.Say("measuring: the limits…")
	leave, err := b.enter(fmt.Sprintf("limits-%d", run))
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, lab.Patience+10*b.options.duration)
	defer cancel()
	if len(b.ways()) > 0 || b.measures("latency") {
		err = b.limitOfLog(ctx)
	}
	if err == nil && len(b.ways()) > 0 {
		err = b.limitOfPush(ctx)
	}
	return err
}

// leastMessages is how many a limit is measured with at least, however slow the
// machine is: processor time is told in ticks of 10 ms.
const leastMessages = 20_000

// eventBytes is the size of the messages of the limits: that of an event.
const eventBytes = 420

func (b *bench) limitOfLog(ctx context.Context) error {
	servers, err := process.NewNATS(process.Server{Name: "nats", Dir: b.Dir, Program: b.Binaries.NATS})
	if err != nil {
		return err
	}
	server := servers[0]
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Kill()
	if err := server.AwaitReady(ctx); err != nil {
		return err
	}
	l, err := newRawLog(ctx, server)
	if err != nil {
		return err
	}
	defer l.close()
	if len(b.ways()) > 0 {
		if err := b.rawRate(ctx, l); err != nil {
			return err
		}
	}
	if !b.measures("latency") {
		return nil
	}
	for _, rate := range rates {
		if err := b.rawLatency(ctx, l, rate); err != nil {
			return err
		}
	}
	return nil
}

// rawRate publishes and consumes at once, as fast as one of each can.
func (b *bench) rawRate(ctx context.Context, l *rawLog) error {
	before, err := l.server.Process.Usage()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	began, first := time.Now(), l.consumed.Load()
	var publishing sync.WaitGroup
	var failed error
	publishing.Go(func() {
		for failed == nil && (time.Since(began) < b.options.duration || l.sent < leastMessages) {
			failed = l.publish(ctx, b.options.underWay)
		}
	})
	publishing.Wait()
	if failed != nil {
		return failed
	}
	if err := l.await(ctx, 0); err != nil {
		return err
	}
	n, took := float64(l.consumed.Load()-first), time.Since(began).Seconds()
	after, _ := l.server.Process.Usage() // as before
	cpu := (after.CPU - before.CPU).Seconds() / n * 1e6
	for _, in := range b.ways() {
		b.results.add(in.name+", events/s", limit, n/took)
		if cpu > 0 {
			b.results.add(in.name+", CPU of NATS, µs each", limit, cpu)
		}
	}
	return nil
}

func (b *bench) rawLatency(ctx context.Context, l *rawLog, rate int) error {
	l.measure(true)
	began := time.Now()
	for i := range int(b.options.duration.Seconds() * float64(rate)) {
		load.PauseUntil(began.Add(time.Duration(i) * time.Second / time.Duration(rate)))
		if err := l.send(); err != nil {
			return err
		}
	}
	if err := l.await(ctx, 0); err != nil {
		return err
	}
	b.percentiles(limit, latencyAt(rate), l.measure(false))
	return nil
}

// rawLog is one stream with a publisher and a consumer that does nothing.
type rawLog struct {
	server            *process.NATS
	publisher, reader *nats.Conn
	consuming         jetstream.ConsumeContext
	sent              int64
	consumed          atomic.Int64
	came              chan struct{}

	mu        sync.Mutex
	measuring bool            // guarded by mu
	latencies []time.Duration // guarded by mu
}

const rawSubject = "raw"

func newRawLog(ctx context.Context, server *process.NATS) (l *rawLog, err error) {
	l = &rawLog{server: server, came: make(chan struct{}, 1)}
	if l.publisher, err = nats.Connect(server.URL()); err != nil {
		return nil, err
	}
	if l.reader, err = nats.Connect(server.URL()); err != nil {
		return nil, errors.Join(err, l.close())
	}
	js, err := jetstream.New(l.reader)
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	if _, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "RAW", Subjects: []string{rawSubject}, Duplicates: 2 * time.Minute}); err != nil {
		return nil, errors.Join(err, l.close())
	}
	consumer, err := js.CreateConsumer(ctx, "RAW", jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	if l.consuming, err = consumer.Consume(l.take, jetstream.PullMaxMessages(2000)); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *rawLog) close() error {
	if l.consuming != nil {
		l.consuming.Stop()
	}
	for _, nc := range []*nats.Conn{l.publisher, l.reader} {
		if nc != nil {
			nc.Close()
		}
	}
	return nil
}

func (l *rawLog) take(m jetstream.Msg) {
	now := time.Now().UnixNano()
	l.mu.Lock()
	if l.measuring {
		l.latencies = append(l.latencies, time.Duration(now-int64(binary.LittleEndian.Uint64(m.Data()))))
	}
	l.mu.Unlock()
	l.consumed.Add(1)
	select {
	case l.came <- struct{}{}:
	default:
	}
}

// measure begins or ends the keeping of latencies, and returns those kept.
func (l *rawLog) measure(on bool) (kept []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept, l.latencies, l.measuring = l.latencies, nil, on
	return kept
}

func (l *rawLog) send() error {
	l.sent++
	body := make([]byte, eventBytes)
	binary.LittleEndian.PutUint64(body, uint64(time.Now().UnixNano()))
	return l.publisher.PublishMsg(&nats.Msg{Subject: rawSubject, Data: body, Header: nats.Header{nats.MsgIdHdr: {fmt.Sprint("event_", l.sent)}}})
}

// publish sends some messages, with so many under way.
func (l *rawLog) publish(ctx context.Context, underWay int64) error {
	const burst = 64
	if err := l.await(ctx, underWay-burst); err != nil {
		return err
	}
	for range burst {
		if err := l.send(); err != nil {
			return err
		}
	}
	return nil
}

// await waits until no more than so many are under way.
func (l *rawLog) await(ctx context.Context, underWay int64) error {
	for l.sent-l.consumed.Load() > underWay {
		select {
		case <-l.came:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages came back: %w", l.consumed.Load(), l.sent, ctx.Err())
		}
	}
	return nil
}
