package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Entrance is where events are published. It belongs to one goroutine.
type Entrance interface {
	// Publish may hold the event back until Flush.
	Publish(daemon int, id string, body []byte) error
	Flush() error
	// Close fails if something was refused.
	Close() error
}

// Content fills an event to about 400 bytes, a usual size.
const Content = "Could you have a look at the quarterly numbers before the meeting, and tell the others what you think?"

// Publisher publishes to the daemons of a fleet in turn.
type Publisher struct {
	fleet    *Fleet
	entrance Entrance
	next     []int64 // sequence numbers, by daemon
	sent     int64
	body     []byte
	run      string // part of ids
}

// NewPublisher returns a publisher; the caller closes the entrance.
func NewPublisher(f *Fleet, to Entrance) *Publisher {
	return &Publisher{fleet: f, entrance: to, next: make([]int64, len(f.daemons)), run: strconv.FormatInt(time.Now().UnixNano(), 36)}
}

// Sent is how many have been published.
func (p *Publisher) Sent() int64 { return p.sent }

// publish sends the next event.
func (p *Publisher) publish() error {
	d := int(p.sent % int64(len(p.next)))
	n := p.next[d]
	p.next[d]++
	p.sent++
	now := time.Now()
	id := "event_" + p.run + "_" + strconv.FormatInt(p.sent, 10)
	b := append(p.body[:0], `{"id":"`...)
	b = append(b, id...)
	b = append(b, `","type":"message.received","orchestratorId":"`...)
	b = append(b, Orchestrator(d)...)
	b = append(b, `","payload":{"messageId":"msg_1","channelId":"channel_1","authorId":"user_1","content":"`...)
	b = append(b, Content...)
	b = append(b, `",`+fieldAt...)
	b = strconv.AppendInt(b, now.UnixNano(), 10)
	b = append(b, `,`+fieldSequence...)
	b = strconv.AppendInt(b, n, 10)
	b = append(b, `},"timestamp":"`...)
	b = now.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","workspaceId":"workspace_1","channelId":"channel_1","requiresAck":true,"priority":1}`...)
	p.body = b
	return p.entrance.Publish(d, id, b)
}

// burst is how many are published before it is asked how many have come.
const burst = 64

// FlatOut publishes as fast as daemons take it, with so many under way, until
// stop is closed.
func (p *Publisher) FlatOut(ctx context.Context, underWay int64, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return p.entrance.Flush()
		default:
		}
		if excess := p.sent + burst - underWay; excess > p.fleet.Came() {
			if err := errors.Join(p.entrance.Flush(), p.fleet.Await(ctx, excess)); err != nil {
				return err
			}
		}
		for range burst {
			if err := p.publish(); err != nil {
				return err
			}
		}
	}
}

// Count publishes n events as fast as daemons take them.
func (p *Publisher) Count(ctx context.Context, n, underWay int64) error {
	for target := p.sent + n; p.sent < target; {
		if excess := p.sent + burst - underWay; excess > p.fleet.Came() {
			if err := errors.Join(p.entrance.Flush(), p.fleet.Await(ctx, excess)); err != nil {
				return err
			}
		}
		for range min(burst, target-p.sent) {
			if err := p.publish(); err != nil {
				return err
			}
		}
	}
	return errors.Join(p.entrance.Flush(), p.fleet.Await(ctx, p.sent))
}

// PauseUntil waits until a moment, as exactly as the system does; not at all if
// it has passed.
func PauseUntil(moment time.Time) {
	if wait := time.Until(moment); wait > 0 {
		pause(wait)
	}
}

// Paced publishes at a rate a second for a time, evenly; when late it does not
// wait.
func (p *Publisher) Paced(ctx context.Context, rate int, length time.Duration) error {
	began := time.Now()
	for i := range int(length.Seconds() * float64(rate)) {
		if due := began.Add(time.Duration(i) * time.Second / time.Duration(rate)); time.Until(due) > 0 {
			if err := p.entrance.Flush(); err != nil {
				return err
			}
			PauseUntil(due)
		}
		if err := p.publish(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return p.entrance.Flush()
}

// Log publishes into the log of a gateway. All answers come to one subscription:
// a future for each would cost as much as the publish.
type Log struct {
	nc         *nats.Conn
	partitions int
	answers    string
	refused    atomic.Pointer[string]
}

// OpenLog connects to the NATS server.
func OpenLog(url string, partitions int) (*Log, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	l := &Log{nc: nc, partitions: partitions, answers: nats.NewInbox()}
	_, err = nc.Subscribe(l.answers, func(m *nats.Msg) {
		if len(m.Data) == 0 || bytes.Contains(m.Data, []byte(`"error"`)) {
			text := string(m.Data)
			l.refused.CompareAndSwap(nil, &text)
		}
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return l, nil
}

// Publish implements Entrance.
func (l *Log) Publish(daemon int, id string, body []byte) error {
	token := event.TokenOf(Orchestrator(daemon))
	return l.nc.PublishMsg(&nats.Msg{
		Subject: event.Subject(event.PartitionOf(token, l.partitions), token), Reply: l.answers, Data: body,
		Header: nats.Header{nats.MsgIdHdr: {event.MessageID(token, id)}},
	})
}

// Flush implements Entrance: the connection does that by itself.
func (l *Log) Flush() error { return nil }

// Close implements Entrance.
func (l *Log) Close() error {
	l.nc.Close()
	if text := l.refused.Load(); text != nil {
		return fmt.Errorf("the log has refused an event: %q", *text)
	}
	return nil
}

// Redis publishes on Redis, in pipelines.
type Redis struct {
	conn    net.Conn
	out     *bufio.Writer
	refused atomic.Pointer[string]
	ended   chan struct{}
}

// OpenRedis connects to the server.
func OpenRedis(addr string) (*Redis, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	r := &Redis{conn: conn, out: bufio.NewWriterSize(conn, 64<<10), ended: make(chan struct{})}
	go r.readAnswers()
	return r, nil
}

func (r *Redis) readAnswers() {
	defer close(r.ended)
	lines := bufio.NewScanner(r.conn)
	for lines.Scan() {
		// An integer: how many have heard it.
		if text := lines.Text(); !strings.HasPrefix(text, ":") || text == ":0" {
			r.refused.CompareAndSwap(nil, &text)
		}
	}
}

// Publish implements Entrance.
func (r *Redis) Publish(_ int, _ string, body []byte) error {
	_, err := fmt.Fprintf(r.out, "*3\r\n$7\r\nPUBLISH\r\n$13\r\ndaemon:events\r\n$%d\r\n%s\r\n", len(body), body)
	return err
}

// Flush implements Entrance.
func (r *Redis) Flush() error { return r.out.Flush() }

// Close implements Entrance.
func (r *Redis) Close() error {
	err := errors.Join(r.out.Flush(), r.conn.Close())
	<-r.ended
	if text := r.refused.Load(); text != nil {
		return errors.Join(err, fmt.Errorf("Redis answers %q", *text))
	}
	return err
}
