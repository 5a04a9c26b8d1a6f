package event

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/internal/jsonscan"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// plain is a valid event in which nothing is doubtful: where its fields stand in
// the text. While it is being read they are raw values, and nil what is absent.
type plain struct {
	id, kind, orchestrator, payload       []byte
	daemon, workspace, channel, timestamp []byte
	requiresAck, priority                 []byte
	traceparent, tracestate               []byte
}

// scan reads an event without allocating. It never refuses one: ok is false for
// what is invalid and for what is only unusual, and parse then tells the two
// apart. What scan accepts, parse reads as the same event; a fuzz test compares
// them. Besides what package jsonscan doubts, it leaves to parse
//   - a field of an event that occurs twice, of which the last counts,
//   - an escape in an id or another text,
//   - a priority that is no short integer,
//   - a type, or the length of an id, that needs to be complained of.
func scan(data []byte, maxBytes int) (p plain, ok bool) {
	if len(data) > maxBytes || !utf8.Valid(data) {
		return p, false
	}
	members := jsonscan.Object(data)
	for {
		name, value, more := members.Next()
		if !more {
			return p, members.Whole() && p.valid()
		}
		field := p.field(name)
		if field == nil {
			continue
		}
		if *field != nil {
			return p, false
		}
		*field = value
	}
}

// field returns where the field of that name is kept; nil: it has no meaning.
func (p *plain) field(name []byte) *[]byte {
	switch string(name) {
	case "id":
		return &p.id
	case "type":
		return &p.kind
	case "orchestratorId":
		return &p.orchestrator
	case "payload":
		return &p.payload
	case "daemonId":
		return &p.daemon
	case "workspaceId":
		return &p.workspace
	case "channelId":
		return &p.channel
	case "timestamp":
		return &p.timestamp
	case "requiresAck":
		return &p.requiresAck
	case "priority":
		return &p.priority
	case "traceparent":
		return &p.traceparent
	case "tracestate":
		return &p.tracestate
	}
	return nil
}

// valid takes the quotes off texts and reports whether the event is valid and
// nothing in it is left to parse.
func (p *plain) valid() bool {
	for _, text := range []*[]byte{&p.id, &p.kind, &p.orchestrator, &p.daemon, &p.workspace, &p.channel, &p.timestamp, &p.traceparent, &p.tracestate} {
		if !unquote(text) {
			return false
		}
	}
	return isID(p.id) && isID(p.orchestrator) && (len(p.daemon) == 0 || isID(p.daemon)) && isType(p.kind) &&
		len(p.payload) > 0 && p.payload[0] == '{' && isFlag(p.requiresAck) && isShortInteger(p.priority)
}

// event copies the texts, each by itself: ids are kept for long in places where
// nothing else of the event is to be kept alive by them.
func (p *plain) event() Event {
	return Event{
		ID: string(p.id), Type: protocol.EventType(p.kind), OrchestratorID: protocol.OrchestratorID(p.orchestrator),
		DaemonID: protocol.DaemonID(p.daemon), Payload: json.RawMessage(p.payload), Timestamp: string(p.timestamp),
		WorkspaceID: string(p.workspace), ChannelID: string(p.channel),
		RequiresAck: len(p.requiresAck) > 0 && p.requiresAck[0] == 't', Priority: shortInteger(p.priority),
		Trace: traceContext(string(p.traceparent), string(p.tracestate)),
	}
}

// unquote replaces a string by its text. null counts as absent.
func unquote(value *[]byte) bool {
	if isAbsent(*value) {
		*value = nil
		return true
	}
	text, ok := jsonscan.Text(*value)
	*value = text
	return ok
}

func isAbsent(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

func isID(text []byte) bool { return len(text) > 0 && len(text) <= protocol.MaxIDBytes }

// isType reports what protocol.EventType.Validate does, whose error would cost an
// allocation.
func isType(text []byte) bool {
	dot := bytes.IndexByte(text, '.')
	if len(text) > protocol.MaxEventTypeBytes || dot < 1 || dot == len(text)-1 {
		return false
	}
	for i, c := range text {
		if !isTokenByte(c) && i != dot {
			return false
		}
	}
	return true
}

func isFlag(value []byte) bool { return isAbsent(value) || value[0] == 't' || value[0] == 'f' }

// isShortInteger leaves to parse what is not exactly a number of up to eight
// digits, sign included.
func isShortInteger(value []byte) bool {
	if isAbsent(value) {
		return true
	}
	if value[0] == '-' {
		value = value[1:]
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(value) <= 8
}

func shortInteger(value []byte) (n int) {
	if isAbsent(value) {
		return 0
	}
	digits := bytes.TrimPrefix(value, []byte("-"))
	for _, c := range digits {
		n = 10*n + int(c-'0')
	}
	if len(digits) < len(value) {
		return -n
	}
	return n
}
