package httpevents

import (
	"encoding/json"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// maxAnswerBytes bounds the events of one answer; the rest is another page.
const maxAnswerBytes = 4 << 20

// Listing gathers the answer to a GET from the events of the log, which it is
// given in their order. It is not safe for concurrent use.
type Listing struct {
	viewer  Viewer
	query   Query
	maximum int // bytes

	events int
	last   time.Time // when the last of them was stored
	body   []byte    // the events' JSON, each followed by a comma
	more   bool
}

// NewListing returns a listing without events.
func NewListing(v Viewer, q Query) *Listing {
	return &Listing{viewer: v, query: q, maximum: maxAnswerBytes}
}

// Add takes the next event, and reports whether the listing may want another.
func (l *Listing) Add(m eventlog.Message) (wanted bool) {
	if !m.Stored.After(l.query.Since) {
		return true
	}
	ev, visible := l.viewer.Sees(m.Body)
	if !visible {
		return true
	}
	if l.full(len(m.Body)) {
		l.more = true
		return false
	}
	l.body = appendEvent(l.body, ev, m.Stored)
	l.events++
	l.last = m.Stored
	return true
}

// full reports whether another event has no place.
//
// Clients whose clocks know only milliseconds ask with createdAt cut off. Where
// a page held nothing but events of that very millisecond, they would ask for it
// again for ever; such a page goes on to the first event after it.
func (l *Listing) full(size int) bool {
	if l.events > 0 && len(l.body)+size > l.maximum {
		return true
	}
	return l.events >= l.query.Limit && !l.last.Truncate(time.Millisecond).Equal(l.query.Since)
}

// Wanted is how many events the next read of the log should ask for: those
// missing, and one to tell whether there are more.
func (l *Listing) Wanted() int { return max(1, l.query.Limit-l.events) + 1 }

// Body returns the answer.
func (l *Listing) Body() []byte {
	out := append(make([]byte, 0, len(l.body)+40), `{"events":[`...)
	if n := len(l.body); n > 0 {
		out = append(out, l.body[:n-1]...)
	}
	if l.more {
		return append(out, `],"hasMore":true}`...)
	}
	return append(out, `],"hasMore":false}`...)
}

// timeForm is RFC 3339 with all nanoseconds, so that texts are ordered as times.
const timeForm = "2006-01-02T15:04:05.000000000Z"

// appendEvent writes an event with its payload byte for byte, which
// json.Marshal would compact.
func appendEvent(dst []byte, ev event.Event, stored time.Time) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendText(dst, ev.ID)
	dst = append(dst, `,"type":`...)
	dst = appendText(dst, string(ev.Type))
	dst = append(dst, `,"payload":`...)
	dst = append(dst, ev.Payload...)
	dst = append(dst, `,"createdAt":"`...)
	dst = stored.UTC().AppendFormat(dst, timeForm)
	dst = append(dst, `","channelId":`...)
	dst = appendTextOrNull(dst, ev.ChannelID)
	dst = append(dst, `,"messageId":`...)
	dst = appendTextOrNull(dst, messageID(ev.Payload))
	return append(dst, `},`...)
}

func appendTextOrNull(dst []byte, text string) []byte {
	if text == "" {
		return append(dst, "null"...)
	}
	return appendText(dst, text)
}

func appendText(dst []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a string always can
	return append(dst, quoted...)
}

// messageID is what Neolith puts into the payload of events about messages.
func messageID(payload json.RawMessage) string {
	var fields struct {
		MessageID json.RawMessage `json:"messageId"`
	}
	var id string
	if json.Unmarshal(payload, &fields) != nil || json.Unmarshal(fields.MessageID, &id) != nil {
		return ""
	}
	return id
}
