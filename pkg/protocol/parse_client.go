package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// ClientMessage is a message of a client, as far as it could be read.
type ClientMessage struct {
	// Type and ID are set whenever they were readable, even with a fault.
	Type MessageType
	ID   string
	// Payload is what is to be carried out; nil when a fault forbids it.
	Payload ClientPayload
}

// ParseClientMessage reads and validates one frame, whose size the caller has
// limited. A fault is to be answered with an error message; if it names a close
// code, the connection is to be closed after it. Message and fault may both be
// there: of a subscribe or unsubscribe with some bad names, the payload has the
// good ones and the fault names the bad ones; of an auth or a heartbeat, the payload
// has what can be used and Fault.LeftOut names what cannot. The message does not
// share data's memory.
//
// Everything that the protocol does not call optional must be there, the
// timestamp too, although nothing depends on it: every client written to the
// protocol sends one, and one that does not is told so with its first message,
// not left to find out at a stricter gateway. Its form is another matter, where
// clients' languages differ: any common form of ISO 8601 is accepted, with or
// without a fraction, seconds and zone. Optional fields may be null.
func ParseClientMessage(data []byte) (ClientMessage, *Fault) {
	if m, ok := scanAck(data); ok {
		return m, nil
	}
	return parseClientMessage(data)
}

// parseClientMessage says what any message means and what is wrong with it.
func parseClientMessage(data []byte) (ClientMessage, *Fault) {
	if !utf8.Valid(data) {
		return ClientMessage{}, &Fault{Code: InvalidMessage, Message: "the frame is not valid UTF-8", Close: CloseInvalidUTF8}
	}
	envelope, problem := objectOf(data)
	if problem != "" {
		return ClientMessage{}, &Fault{Code: InvalidMessage, Message: "the frame is not a JSON object: " + problem}
	}
	r := &fieldReader{}
	m := ClientMessage{ID: r.text(envelope, "", "id", MaxIDBytes)}
	m.Type = MessageType(r.text(envelope, "", "type", 0))
	r.timestamp(envelope)
	m.Payload = r.payload(m.Type, envelope)
	if r.fault != nil {
		r.fault.InReplyTo = m.ID
		if !r.partial {
			m.Payload = nil
		}
	}
	return m, r.fault
}

type fields map[string]json.RawMessage

// get returns the field; null counts as absent.
func (f fields) get(name string) (json.RawMessage, bool) {
	raw, ok := f[name]
	return raw, ok && string(raw) != "null"
}

// fieldReader keeps the first fault and goes on, so that the id of a faulty
// message is still known.
type fieldReader struct {
	fault *Fault
	// partial: the fault leaves a payload that is to be carried out.
	partial bool
	// leftOut are the parts that a message is read without, and why.
	leftOut []leftOut
}

type leftOut struct{ name, detail string }

// fail records what is wrong with a field. It never takes a field's value,
// which might be a token.
func (r *fieldReader) fail(field, detail string) {
	if r.fault == nil {
		r.fault = &Fault{Code: InvalidMessage, Message: field + ": " + detail, Field: field, Detail: detail}
	}
}

func (r *fieldReader) check(field string, err error) {
	if err != nil {
		r.fail(field, err.Error())
	}
}

// text reads a required, non-empty string of at most most bytes (0: no limit).
func (r *fieldReader) text(f fields, path, name string, most int) string {
	raw, ok := f.get(name)
	if !ok {
		r.fail(path+name, "is missing, expected a non-empty string")
		return ""
	}
	s, isText := textOf(raw)
	switch {
	case !isText:
		r.fail(path+name, "expected a string, got "+kindOf(raw))
	case s == "":
		r.fail(path+name, "is empty, expected a non-empty string")
	case most > 0 && len(s) > most:
		r.fail(path+name, fmt.Sprintf("has %d bytes, expected at most %d", len(s), most))
		return ""
	}
	return s
}

// timestampLayouts are the common forms of ISO 8601; a fraction of a second is
// accepted wherever there are seconds, and a space or small letters as RFC 3339
// allows them.
var timestampLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05",
	"2006-01-02T15:04Z07:00", "2006-01-02T15:04", "20060102T150405Z0700", "20060102T150405", "2006-01-02",
}

func (r *fieldReader) timestamp(f fields) {
	s := r.text(f, "", "timestamp", 0)
	if s == "" {
		return
	}
	if _, err := ParseTime(s); err != nil {
		r.fail("timestamp", err.Error())
	}
}

// ParseTime reads a time in any common form of ISO 8601; one without a zone is
// in UTC.
func ParseTime(text string) (time.Time, error) {
	text = strings.ToUpper(strings.Replace(text, " ", "T", 1))
	for _, layout := range timestampLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("expected a time in ISO 8601, such as 2026-11-22T10:00:00.000Z")
}

func (r *fieldReader) payload(t MessageType, envelope fields) ClientPayload {
	f := fields{}
	if raw, ok := envelope.get("payload"); ok {
		var problem string
		if f, problem = objectOf(raw); problem != "" {
			if t != TypeHeartbeat {
				r.fail("payload", "expected an object, "+problem)
				return nil
			}
			r.leaveOut("payload", "expected an object, "+problem)
		}
	}
	switch t {
	case TypeAuth:
		return r.auth(f)
	case TypeHeartbeat:
		return r.heartbeat(f)
	case TypeSubscribe:
		return r.subscribe(f)
	case TypeUnsubscribe:
		return r.unsubscribe(f)
	case TypeAck:
		return r.ack(f)
	}
	r.fail("type", "expected auth, heartbeat, subscribe, unsubscribe or ack")
	return nil
}

const payloadPath = "payload."

func (r *fieldReader) auth(f fields) ClientPayload {
	p := Auth{
		AccessToken:    r.text(f, payloadPath, "accessToken", 0),
		DaemonID:       DaemonID(r.text(f, payloadPath, "daemonId", MaxIDBytes)),
		OrchestratorID: OrchestratorID(r.text(f, payloadPath, "orchestratorId", MaxIDBytes)),
	}
	p.Resume = r.resume(f)
	r.tellLeftOut()
	return p
}

// resume is a shortcut: without it the connection starts from its cursor.
func (r *fieldReader) resume(f fields) *Resume {
	raw, ok := f.get("resume")
	if !ok {
		return nil
	}
	resume, problem := objectOf(raw)
	if problem != "" {
		r.leaveOut("resume", "expected an object, "+problem)
		return nil
	}
	// A client that has no position yet may say so with an empty one.
	raw, ok = resume.get("position")
	if !ok || string(raw) == `""` {
		return nil
	}
	position, isText := textOf(raw)
	if !isText {
		r.leaveOut("resume", "expected a position that is a string, got "+kindOf(raw))
		return nil
	}
	return &Resume{Position: position}
}

func (r *fieldReader) subscribe(f fields) ClientPayload {
	patterns := r.patterns(f)
	channels := r.channels(f)
	if len(patterns) == 0 {
		return nil
	}
	confirm, _ := f.get("confirm")
	return Subscribe{EventTypes: patterns, ChannelIDs: channels, Confirm: string(confirm) == "true"}
}

func (r *fieldReader) unsubscribe(f fields) ClientPayload {
	patterns := r.patterns(f)
	if len(patterns) == 0 {
		return nil
	}
	return Unsubscribe{EventTypes: patterns}
}

func (r *fieldReader) ack(f fields) ClientPayload {
	items, ok := r.list(f, "eventIds", 1, MaxAckIDs)
	if !ok {
		return nil
	}
	ids := make([]string, len(items))
	for i, raw := range items {
		ids[i] = r.item(raw, "payload.eventIds", i)
	}
	return Ack{EventIDs: ids}
}

// patterns reads eventTypes. Bad names do not spoil the good ones: they make
// the fault partial, and it names them all.
func (r *fieldReader) patterns(f fields) []Pattern {
	items, ok := r.list(f, "eventTypes", 1, MaxSubscriptions)
	if !ok {
		return nil
	}
	sound := r.fault == nil
	var good []Pattern
	var bad []string
	first := ""
	for i, raw := range items {
		p, err := patternOf(raw)
		switch {
		case err == nil && !slices.Contains(good, p):
			good = append(good, p)
		case err != nil:
			if first == "" {
				first = fmt.Sprintf("payload.eventTypes[%d]", i)
			}
			bad = append(bad, fmt.Sprintf("[%d] %v", i, err))
		}
	}
	if len(bad) > 0 && sound {
		r.fail(first, strings.Join(bad, "; "))
		r.fault.Message = fmt.Sprintf("payload.eventTypes: %d of %d names are not valid", len(bad), len(items))
		r.partial = len(good) > 0
	}
	return good
}

func patternOf(raw json.RawMessage) (Pattern, error) {
	text, isText := textOf(raw)
	if !isText {
		return "", fmt.Errorf("expected a string, got %s", kindOf(raw))
	}
	return Pattern(text), Pattern(text).Validate()
}

func (r *fieldReader) channels(f fields) []string {
	if _, ok := f.get("channelIds"); !ok {
		return nil
	}
	items, ok := r.list(f, "channelIds", 0, MaxChannelIDs)
	if !ok {
		r.partial = false
		return nil
	}
	seen := make(map[string]bool, len(items))
	var ids []string
	for i, raw := range items {
		id := r.item(raw, "payload.channelIds", i)
		if id == "" {
			r.partial = false
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids
}

// list reads a required array of the payload with least to most items.
func (r *fieldReader) list(f fields, name string, least, most int) ([]json.RawMessage, bool) {
	field := payloadPath + name
	raw, ok := f.get(name)
	if !ok {
		r.fail(field, fmt.Sprintf("is missing, expected a list of %d to %d strings", least, most))
		return nil, false
	}
	items, isList := listOf(raw)
	if !isList {
		r.fail(field, "expected a list, got "+kindOf(raw))
		return nil, false
	}
	if len(items) < least || len(items) > most {
		r.fail(field, fmt.Sprintf("has %d items, expected %d to %d", len(items), least, most))
		return nil, false
	}
	return items, true
}

// item reads an id of 1 to MaxIDBytes bytes out of a list; "" with a fault.
func (r *fieldReader) item(raw json.RawMessage, list string, i int) string {
	s, isText := textOf(raw)
	if !isText {
		r.fail(fmt.Sprintf("%s[%d]", list, i), "expected a string, got "+kindOf(raw))
		return ""
	}
	if err := validateID("id", s); err != nil {
		r.check(fmt.Sprintf("%s[%d]", list, i), err)
		return ""
	}
	return s
}
