package jet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// directRequest is the body of a direct get request. Any replica answers it.
// The fields are those of the server's JSApiMsgGetRequest. up_to_seq is not
// among them on purpose: it would have to come from another replica's answer.
type directRequest struct {
	Seq       uint64     `json:"seq,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"` // instead of Seq
	NextFor   string     `json:"next_by_subj,omitempty"`
	MultiLast []string   `json:"multi_last,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	// MaxBytes ends the answer with the message that reaches it. It is never
	// left out: an answer of 64 MB makes the server cut the connection.
	MaxBytes int `json:"max_bytes"`
}

// Message is one message of a stream.
type Message struct {
	Subject  string
	Sequence uint64
	// Stored is when the stream took it in (the server's clock).
	Stored time.Time
	Data   []byte

	header nats.Header
}

// Header returns the last value of a header, whose case counts.
func (m Message) Header(key string) string { return lastHeader(m.header, key) }

// Deleted reports whether the message says that a key of a bucket was deleted.
func (m Message) Deleted() bool { return isDeleteMarker(m.header) }

// directAnswer is a whole answer of one replica.
type directAnswer struct {
	messages []Message
	// pending is how many more there are that the request asked for.
	pending uint64
	// upTo is up to where the replica looked (multi_last only).
	upTo uint64
	// none: there is nothing of what was asked for.
	none bool
}

// Headers of a direct get answer.
const (
	headerStatus      = "Status"
	headerDescription = "Description"
	headerPending     = "Nats-Num-Pending"
	headerPrevious    = "Nats-Last-Sequence"
	headerUpTo        = "Nats-UpTo-Sequence"

	statusEnd          = "204"
	statusNone         = "404"
	statusNoResponders = "503"
	noResults          = "No Results"
	notFound           = "Message Not Found"
)

// directPatience is for how long a replica that was asked may be silent, or
// twice that within an answer. It may stand still or have lost its connection to
// the others, and the next one that is asked answers.
const directPatience = time.Second

// errSilent ends one try at a direct get.
var errSilent = errors.New("the replica that was asked is silent")

// lastHeader returns the last value of a header. The server appends its own to
// those that the message was published with, so the first may be forged.
func lastHeader(h nats.Header, key string) string {
	values := h[key]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

func headerNumber(h nats.Header, key string) (uint64, error) {
	n, err := strconv.ParseUint(lastHeader(h, key), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("direct get answer: header %s is %q", key, lastHeader(h, key))
	}
	return n, nil
}

// direct asks any replica of a stream and collects its answer. An answer that
// came in part is ErrUnavailable, never a shorter answer. What it waits for one
// of the places does not count towards the request timeout.
func (c *Client) direct(ctx context.Context, places *places, stream string, req directRequest) (answer directAnswer, err error) {
	for left := requestTimeout; ; {
		var took time.Duration
		if answer, took, err = c.try(ctx, places, stream, req, left); !errors.Is(err, errSilent) {
			return answer, err
		}
		left -= took
	}
}

// try is one try of direct.
func (c *Client) try(ctx context.Context, places *places, stream string, req directRequest, timeout time.Duration) (answer directAnswer, took time.Duration, err error) {
	done, err := places.take(ctx, stream)
	if err != nil {
		return directAnswer{}, 0, err
	}
	defer func() { done(err) }()
	began := time.Now()
	err = c.Bounded(ctx, timeout, func(ctx context.Context) (err error) {
		answer, err = c.directGet(ctx, stream, req)
		return err
	})
	return answer, time.Since(began), err
}

func (c *Client) directGet(ctx context.Context, stream string, req directRequest) (directAnswer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return directAnswer{}, err
	}
	collect := collector{nothing: notFound}
	if len(req.MultiLast) > 0 {
		collect.nothing = noResults
	}
	g := &gathering{collect: collect, done: make(chan struct{})}
	reply, err := c.gets.add(g)
	if err != nil {
		return directAnswer{}, err
	}
	defer c.gets.remove(reply)
	if err := c.NC.PublishRequest(c.api+"DIRECT.GET."+stream, reply, body); err != nil {
		return directAnswer{}, err
	}
	silence := time.NewTimer(directPatience)
	defer silence.Stop()
	for heard := uint64(0); ; {
		select {
		case <-g.done:
			if g.err != nil {
				return directAnswer{}, fmt.Errorf("stream %s: %w", stream, g.err)
			}
			return g.collect.answer, nil
		case <-silence.C:
			now := g.heard.Load()
			if now == heard {
				return directAnswer{}, errSilent
			}
			heard = now
			silence.Reset(directPatience)
		case <-ctx.Done():
			return directAnswer{}, ctx.Err()
		}
	}
}

// collector puts an answer together and checks that it is whole: each message
// names the sequence of the one before it, and the end that of the last.
type collector struct {
	nothing  string // how the server says that there is nothing of what was asked for
	answer   directAnswer
	previous uint64
}

func (c *collector) add(msg *nats.Msg) (done bool, err error) {
	// What the server says about the answer has no sequence; what it reads from
	// the stream always has, whatever else its publisher put in the header.
	if lastHeader(msg.Header, jetstream.SequenceHeader) == "" {
		return true, c.end(msg)
	}
	if err := c.follows(msg); err != nil {
		return false, err
	}
	m := Message{
		Subject: lastHeader(msg.Header, jetstream.SubjectHeader),
		Data:    msg.Data,
		header:  msg.Header,
	}
	if m.Sequence, err = headerNumber(msg.Header, jetstream.SequenceHeader); err != nil {
		return false, err
	}
	if m.Stored, err = time.Parse(time.RFC3339Nano, lastHeader(msg.Header, jetstream.TimeStampHeaer)); err != nil {
		return false, fmt.Errorf("direct get answer: %w", err)
	}
	c.previous = m.Sequence
	c.answer.messages = append(c.answer.messages, m)
	return false, nil
}

func (c *collector) follows(msg *nats.Msg) error {
	previous, err := headerNumber(msg.Header, headerPrevious)
	if err != nil {
		return err
	}
	if previous != c.previous {
		return fmt.Errorf("%w: part of an answer was lost between sequences %d and %d", ErrUnavailable, c.previous, previous)
	}
	return nil
}

func (c *collector) end(msg *nats.Msg) (err error) {
	code, description := lastHeader(msg.Header, headerStatus), lastHeader(msg.Header, headerDescription)
	switch {
	case code == statusEnd:
	case code == statusNoResponders:
		return nats.ErrNoResponders
	case code == statusNone && len(c.answer.messages) == 0 && description == c.nothing:
		c.answer.none = true
		return nil
	default:
		// Also 404 where a message of the answer could not be loaded.
		return fmt.Errorf("%w: direct get answered %s %s", ErrUnavailable, code, description)
	}
	if err := c.follows(msg); err != nil {
		return err
	}
	if c.answer.pending, err = headerNumber(msg.Header, headerPending); err != nil {
		return err
	}
	if lastHeader(msg.Header, headerUpTo) != "" {
		c.answer.upTo, err = headerNumber(msg.Header, headerUpTo)
	}
	return err
}
