package eventlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// deadletterText bounds the fields that come from the event or its fault.
	deadletterText = 1 << 10
	// unknownToken stands in the subject where no orchestrator can be read. No
	// id encodes to it.
	unknownToken = "=unknown"
)

// DeadLetter is an event that was refused, or given up after its last try.
type DeadLetter struct {
	Reason event.Reason
	// Token is the orchestrator's, where it could be read.
	Token event.Token
	// EventID is the event's id, where it could be read.
	EventID string
	// Daemon is the one that did not acknowledge it, if it was sent.
	Daemon protocol.DaemonID
	// Detail says in words what was wrong.
	Detail string
	// SettledElsewhere: another daemon of the orchestrator has settled it.
	SettledElsewhere bool
	// Sequence is where the event stands in the log, in this Epoch; 0 if it was never
	// there.
	Sequence uint64
	Epoch    Epoch
	// Body is what was published.
	Body []byte
}

// DeadLetterRecord is the JSON of a stored dead letter.
type DeadLetterRecord struct {
	Reason           event.Reason      `json:"reason"`
	Detail           string            `json:"detail,omitempty"`
	Orchestrator     string            `json:"orchestrator,omitempty"`
	EventID          string            `json:"eventId,omitempty"`
	Daemon           protocol.DaemonID `json:"daemonId,omitempty"`
	SettledElsewhere bool              `json:"settledElsewhere"`
	Partition        *event.Partition  `json:"partition,omitempty"`
	Epoch            Epoch             `json:"epoch,omitempty"`
	Sequence         uint64            `json:"sequence,omitempty"`
	Time             time.Time         `json:"time"`
	// BodyBytes and BodySHA256 are of the whole event. Body has it as text, or
	// BodyBase64 where it is not valid UTF-8, or would be larger as JSON text than
	// NATS takes. Of an event that is larger itself, BodyBase64 has the beginning.
	BodyBytes  int    `json:"bodyBytes"`
	BodySHA256 string `json:"bodySha256"`
	Body       string `json:"body,omitempty"`
	BodyBase64 []byte `json:"bodyBase64,omitempty"`
}

// DeadLetterSubject is where the dead letters of an orchestrator stand.
func DeadLetterSubject(reason event.Reason, orchestrator event.Token) string {
	if _, err := orchestrator.Orchestrator(); err != nil {
		orchestrator = unknownToken
	}
	return DeadLetterSubjects(reason, orchestrator)
}

// DeadLetterSubjects is where those stand of a reason and an orchestrator, each of
// which may be *.
func DeadLetterSubjects(reason event.Reason, orchestrator event.Token) string {
	return deadletterPrefix + "." + string(reason) + "." + string(orchestrator)
}

// DeadLetter stores a dead letter and returns when it is stored, once within
// the duplicate window for each orchestrator, event, daemon and reason, and each
// place of the event in the log.
func (l *Log) DeadLetter(ctx context.Context, d DeadLetter) error {
	start := time.Now()
	err := l.deadLetter(ctx, d)
	l.metrics.observe(opDeadLetter, start, err)
	if err != nil {
		return fmt.Errorf("store a dead letter (%s): %w", d.Reason, err)
	}
	l.metrics.deadletters.Of(d.Reason).Inc()
	return nil
}

func (l *Log) deadLetter(ctx context.Context, d DeadLetter) error {
	sum := sha256.Sum256(d.Body)
	room := int(l.jet.NC.MaxPayload()) - headerRoom
	data, err := l.record(d, hex.EncodeToString(sum[:])).encode(d.Body, room)
	if err != nil {
		return err
	}
	_, err = l.jet.Store(ctx, DeadletterStream, &nats.Msg{
		Subject: DeadLetterSubject(d.Reason, d.Token),
		Header:  nats.Header{jetstream.MsgIDHeader: {d.messageID(sum)}},
		Data:    data,
	})
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		err = errors.Join(err, l.restoreDeadLetters(ctx))
	}
	return err
}

// restoreDeadLetters creates the stream if nobody answers because it is missing.
// Whoever wanted to store a dead letter tries again.
func (l *Log) restoreDeadLetters(ctx context.Context) error {
	return l.jet.Request(ctx, func(ctx context.Context) error {
		_, err := l.jet.EnsureStream(ctx, l.cfg.deadletters(), l.jet.Find)
		return err
	})
}

func (l *Log) record(d DeadLetter, sum string) DeadLetterRecord {
	r := DeadLetterRecord{
		Reason:           d.Reason,
		Detail:           cut(d.Detail),
		EventID:          cut(d.EventID),
		Daemon:           protocol.DaemonID(cut(string(d.Daemon))),
		SettledElsewhere: d.SettledElsewhere,
		Sequence:         d.Sequence,
		Time:             time.Now().UTC(),
		BodyBytes:        len(d.Body),
		BodySHA256:       sum,
	}
	if id, err := d.Token.Orchestrator(); err == nil {
		r.Orchestrator = string(id)
		if d.Sequence > 0 {
			p := l.Partition(d.Token)
			r.Partition, r.Epoch = &p, d.Epoch
		}
	}
	return r
}

// encode returns the record with as much of the event as there is room for.
func (r DeadLetterRecord) encode(body []byte, room int) ([]byte, error) {
	frame, err := marshal(r)
	if err != nil {
		return nil, err
	}
	if room -= len(frame); len(body) <= room && utf8.Valid(body) {
		r.Body = string(body)
		if data, err := marshal(r); err != nil || len(data) <= room+len(frame) {
			return data, err
		}
		r.Body = ""
	}
	room -= len(`,"bodyBase64":""`)
	r.BodyBase64 = body[:min(len(body), max(0, base64.StdEncoding.DecodedLen(room/4*4)))]
	return marshal(r)
}

// marshal is json.Marshal, which would write six bytes for each < in an event.
func marshal(r DeadLetterRecord) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// messageID names the dead letter for as long as duplicates are recognized.
// Where there is no event id, the body stands for it. The ids may be of any
// length and content, so the whole is hashed.
//
// An event that was replayed stands elsewhere in the log. Its first letter has been
// removed, and NATS would go on to recognize the id of that, so one without the place
// would count as stored and be nowhere (invariant 1). A place is a sequence and its
// epoch: a log that was made anew or rolled back uses its sequences again. A node of a
// version that leaves the epoch out gives another id, which costs a second letter.
func (d DeadLetter) messageID(sum [sha256.Size]byte) string {
	id := d.EventID
	if id == "" {
		id = string(sum[:])
	}
	parts := []string{string(d.Token), id, string(d.Daemon), string(d.Reason)}
	if d.Sequence > 0 {
		parts = append(parts, strconv.FormatUint(d.Sequence, 10), string(d.Epoch))
	}
	h := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s/", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func cut(s string) string {
	if len(s) <= deadletterText {
		return s
	}
	return string(trimRune([]byte(s[:deadletterText]))) + "…"
}

// trimRune drops the beginning of a character that was cut off at the end.
func trimRune(b []byte) []byte {
	for i := 1; i <= min(utf8.UTFMax, len(b)); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}
