// Package event defines the event as it is published: its JSON shape, its
// validation, and its address in the log (token, partition, subject, message
// id). The same validator stands at every door: bridge, HTTP intake, router
// and edge. The protocol between gateway and daemon is package protocol.
package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// DefaultMaxBytes is the default limit for the JSON of one event.
const DefaultMaxBytes = 256 << 10

// Event is something that happened in Neolith that an orchestrator must learn of.
type Event struct {
	ID             string
	Type           protocol.EventType
	OrchestratorID protocol.OrchestratorID
	// DaemonID addresses one daemon of the orchestrator; empty means all.
	DaemonID protocol.DaemonID
	// Payload is the published JSON object, byte for byte.
	Payload json.RawMessage
	// Timestamp is when the publisher says it happened, as published (ISO 8601
	// by convention, not interpreted); may be empty.
	Timestamp   string
	WorkspaceID string
	ChannelID   string
	// RequiresAck asks for the event to be sent until a daemon acknowledges it.
	RequiresAck bool
	// Priority: higher is more important; 0 by default.
	Priority int
	// Trace says where the event stands in a trace of its publisher's; nil: in none.
	Trace *TraceContext
	// LeftOut names the fields among Optional that could not be used, and count as
	// absent; nil where there are none. It is not published.
	LeftOut []string
}

// Optional lists the fields that Event.LeftOut may name. An event is not
// refused because such a field is of the wrong JSON type. daemonId is not among
// them, though it may be absent: it says who may receive the event.
var Optional = []string{"workspaceId", "channelId", "timestamp", "requiresAck", "priority", "traceparent", "tracestate"}

// Reason says why an event was refused; it is a word of the dead letters'
// subjects and a metric label, so the set is closed.
type Reason string

// The reasons; the first five are those of Parse.
const (
	ReasonTooLarge     Reason = "too_large"
	ReasonNotJSON      Reason = "not_json"
	ReasonInvalidUTF8  Reason = "invalid_utf8"
	ReasonMissingField Reason = "missing_field"
	ReasonInvalidField Reason = "invalid_field"
	// ReasonWrongSubject is given by the router for an event stored under
	// another orchestrator's subject.
	ReasonWrongSubject Reason = "wrong_subject"
	// ReasonWrongPartition is given by the router for an event that stands in
	// another partition than its orchestrator's and could not be moved there.
	ReasonWrongPartition Reason = "wrong_partition"
	// ReasonUndelivered is given by an edge for an event that its daemon did
	// not acknowledge after the last try.
	ReasonUndelivered Reason = "undelivered"
	// ReasonUnresolvedDaemon is given by a bridge for an event that names only a
	// daemon, when neither that daemon's id nor its session says whose it is.
	ReasonUnresolvedDaemon Reason = "unresolved_daemon"
	// ReasonRefused is given by a bridge for an event that the log will not
	// take, however often it is asked.
	ReasonRefused Reason = "refused"
)

// Reasons lists every Reason.
var Reasons = []Reason{
	ReasonTooLarge, ReasonNotJSON, ReasonInvalidUTF8, ReasonMissingField, ReasonInvalidField,
	ReasonWrongSubject, ReasonWrongPartition, ReasonUndelivered, ReasonUnresolvedDaemon, ReasonRefused,
}

// InvalidError says what is wrong with a published event and where.
type InvalidError struct {
	Reason Reason
	// Field is the JSON field at fault; empty when it is the whole text.
	Field string
	// Detail says what was found and what was expected.
	Detail string
	// Event holds what could be read, so that a dead letter can name its addressee.
	Event Event
}

// Error describes the fault in one line.
func (e *InvalidError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("invalid event (%s): %s", e.Reason, e.Detail)
	}
	return fmt.Sprintf("invalid event (%s): field %q: %s", e.Reason, e.Field, e.Detail)
}

// Parse reads and validates the JSON of one event of at most maxBytes bytes.
// Field names are case-sensitive; unknown fields are ignored, and so are those of
// Optional that cannot be used. The event does not share data's memory. A refusal is an *InvalidError.
func Parse(data []byte, maxBytes int) (Event, error) {
	e, err := ParseInPlace(data, maxBytes)
	if err == nil {
		e.Payload = bytes.Clone(e.Payload)
	}
	return e, err
}

// ParseInPlace is Parse for data that nobody changes any more: Payload is a part
// of it. Of an event that is refused, what could be read is a copy.
func ParseInPlace(data []byte, maxBytes int) (Event, error) {
	if p, ok := scan(data, maxBytes); ok {
		return p.event(), nil
	}
	e, err := parse(data, maxBytes)
	if err == nil {
		if i := bytes.Index(data, e.Payload); i >= 0 {
			e.Payload = data[i : i+len(e.Payload) : i+len(e.Payload)]
		}
	}
	return e, err
}

// Valid reports, without allocating, whether data is beyond doubt a valid event
// of the orchestrator. If not it may be one all the same: ask Parse.
func Valid(data []byte, maxBytes int, orchestrator Token) bool {
	p, ok := scan(data, maxBytes)
	return ok && orchestrator.encodes(p.orchestrator)
}

// parse says what a text means and what is wrong with it. scan reads most events
// and never differs from it.
func parse(data []byte, maxBytes int) (Event, error) {
	if len(data) > maxBytes {
		return Event{}, &InvalidError{Reason: ReasonTooLarge, Detail: fmt.Sprintf("%d bytes, expected at most %d", len(data), maxBytes)}
	}
	// A text frame with invalid UTF-8 makes every WebSocket client close the
	// connection, so such an event could never be delivered.
	if !utf8.Valid(data) {
		return Event{}, &InvalidError{Reason: ReasonInvalidUTF8, Detail: "text is not valid UTF-8"}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return Event{}, &InvalidError{Reason: ReasonNotJSON, Detail: "expected a JSON object: " + err.Error()}
	}
	if fields == nil {
		return Event{}, &InvalidError{Reason: ReasonNotJSON, Detail: "expected a JSON object, got null"}
	}
	r := fieldReader{fields: fields}
	var e Event
	e.ID = r.text("id", true)
	e.OrchestratorID = protocol.OrchestratorID(r.text("orchestratorId", true))
	e.Type = protocol.EventType(r.text("type", true))
	e.DaemonID = protocol.DaemonID(r.text("daemonId", false))
	e.WorkspaceID = optional(&r, "workspaceId", asText)
	e.ChannelID = optional(&r, "channelId", asText)
	e.Timestamp = optional(&r, "timestamp", asText)
	e.RequiresAck = optional(&r, "requiresAck", asBoolean)
	e.Priority = optional(&r, "priority", asInteger)
	e.Trace = traceContext(optional(&r, "traceparent", asText), optional(&r, "tracestate", asText))
	e.LeftOut = r.leftOut
	e.Payload = r.object("payload")
	r.check("id", validateEventID(e.ID))
	r.check("orchestratorId", e.OrchestratorID.Validate())
	r.check("type", e.Type.Validate())
	if e.DaemonID != "" {
		r.check("daemonId", e.DaemonID.Validate())
	}
	if r.err != nil {
		r.err.Event = e
		return e, r.err
	}
	return e, nil
}

// MarshalJSON writes the event as it is published, with Payload as it is. Call
// it directly: json.Marshal compacts what it returns, the payload included.
func (e Event) MarshalJSON() ([]byte, error) {
	if !json.Valid(e.Payload) {
		return nil, errors.New("event payload is not valid JSON")
	}
	head, err := json.Marshal(struct {
		ID             string                  `json:"id"`
		Type           protocol.EventType      `json:"type"`
		OrchestratorID protocol.OrchestratorID `json:"orchestratorId"`
		DaemonID       protocol.DaemonID       `json:"daemonId,omitempty"`
		Timestamp      string                  `json:"timestamp,omitempty"`
		WorkspaceID    string                  `json:"workspaceId,omitempty"`
		ChannelID      string                  `json:"channelId,omitempty"`
		RequiresAck    bool                    `json:"requiresAck,omitempty"`
		Priority       int                     `json:"priority,omitempty"`
		Traceparent    string                  `json:"traceparent,omitempty"`
		Tracestate     string                  `json:"tracestate,omitempty"`
	}{e.ID, e.Type, e.OrchestratorID, e.DaemonID, e.Timestamp, e.WorkspaceID, e.ChannelID, e.RequiresAck, e.Priority, e.Traceparent(), e.Tracestate()})
	if err != nil {
		return nil, err
	}
	out := append(head[:len(head)-1], `,"payload":`...)
	out = append(out, e.Payload...)
	return append(out, '}'), nil
}

func validateEventID(id string) error {
	if len(id) > protocol.MaxIDBytes {
		return fmt.Errorf("event id has %d bytes, expected 1 to %d", len(id), protocol.MaxIDBytes)
	}
	return nil
}

// fieldReader keeps the first fault it meets and goes on, so that what can be
// read of a faulty event is still known.
type fieldReader struct {
	fields  map[string]json.RawMessage
	err     *InvalidError
	leftOut []string // optional fields that could not be used
}

func (r *fieldReader) fail(reason Reason, field, detail string) {
	if r.err == nil {
		r.err = &InvalidError{Reason: reason, Field: field, Detail: detail}
	}
}

func (r *fieldReader) check(field string, err error) {
	if err != nil {
		r.fail(ReasonInvalidField, field, err.Error())
	}
}

func (r *fieldReader) raw(name string) (json.RawMessage, bool) {
	raw, ok := r.fields[name]
	if !ok || bytes.Equal(raw, []byte("null")) {
		return nil, false
	}
	return raw, true
}

func (r *fieldReader) text(name string, required bool) string {
	raw, ok := r.raw(name)
	if !ok {
		if required {
			r.fail(ReasonMissingField, name, "is missing, expected a non-empty string")
		}
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		r.fail(ReasonInvalidField, name, "expected a string, got "+quote.Cut(string(raw)))
		return ""
	}
	if required && s == "" {
		r.fail(ReasonMissingField, name, "is empty, expected a non-empty string")
	}
	return s
}

// optional reads a field that the event can do without.
func optional[V any](r *fieldReader, name string, read func(json.RawMessage) (V, bool)) (value V) {
	raw, ok := r.raw(name)
	if !ok {
		return value
	}
	value, ok = read(raw)
	if !ok {
		r.leftOut = append(r.leftOut, name)
	}
	return value
}

func asText(raw json.RawMessage) (s string, ok bool) { return s, json.Unmarshal(raw, &s) == nil }

func asBoolean(raw json.RawMessage) (b, ok bool) { return b, json.Unmarshal(raw, &b) == nil }

// asInteger accepts any JSON number and truncates it, since publishers in
// languages with only floating-point numbers may write 1.0.
func asInteger(raw json.RawMessage) (int, bool) {
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.Abs(f) > math.MaxInt32 {
		return 0, false
	}
	return int(f), true
}

func (r *fieldReader) object(name string) json.RawMessage {
	raw, ok := r.raw(name)
	if !ok {
		r.fail(ReasonMissingField, name, "is missing, expected an object")
		return nil
	}
	if raw[0] != '{' {
		r.fail(ReasonInvalidField, name, "expected an object, got "+quote.Cut(string(raw)))
		return nil
	}
	return raw
}
