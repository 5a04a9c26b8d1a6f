package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// status is what has become of one event.
type status string

const (
	// For good.
	stored    status = "stored"
	duplicate status = "duplicate"
	waiting   status = "waiting"
	invalid   status = "invalid"
	// To be sent again.
	failed status = "failed"
)

var statuses = []status{stored, duplicate, waiting, invalid, failed}

// result is the answer for one event.
type result struct {
	ID        string           `json:"id"`
	Status    status           `json:"status"`
	Partition *event.Partition `json:"partition,omitempty"`
	Sequence  uint64           `json:"sequence,omitempty"`
	Error     *fault           `json:"error,omitempty"`
}

// fault says what is wrong.
type fault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

// codeForbidden: the address, or the key for the event's orchestrator, may not.
const codeForbidden = "forbidden"

// submitted is an event of a request.
type submitted struct {
	event  event.Event
	body   []byte
	result result
}

var errBody = errors.New("expected one event (a JSON object) or an array of events")

// split returns the JSON texts of a body's events, which share its memory. It
// counts them while it goes: of a body of the smallest elements there may be, a
// list of all would take fifty times its memory.
func split(body []byte) ([]json.RawMessage, error) {
	body = bytes.TrimSpace(body)
	if !json.Valid(body) {
		return nil, fmt.Errorf("not valid JSON: %w", errBody)
	}
	switch body[0] {
	case '{':
		return []json.RawMessage{body}, nil
	case '[':
	default:
		return nil, errBody
	}
	elements := json.NewDecoder(bytes.NewReader(body))
	_, _ = elements.Token() // the bracket
	var texts []json.RawMessage
	for elements.More() {
		if len(texts) == MaxEvents {
			return nil, fmt.Errorf("more than %d events, expected 1 to %d", MaxEvents, MaxEvents)
		}
		start := elements.InputOffset()
		if err := elements.Decode(&passedOver{}); err != nil {
			return nil, fmt.Errorf("%w: %w", err, errBody)
		}
		texts = append(texts, bytes.TrimLeft(body[start:elements.InputOffset()], " \t\r\n,"))
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("0 events, expected 1 to %d", MaxEvents)
	}
	return texts, nil
}

// passedOver is any JSON value, of which nothing is kept.
type passedOver struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (*passedOver) UnmarshalJSON([]byte) error { return nil }

// read validates one event; a result that is set is its answer.
func read(text []byte, maxBytes int) submitted {
	e, err := event.ParseInPlace(text, maxBytes)
	if err == nil && e.OrchestratorID.Reserved() {
		err = &event.InvalidError{Reason: event.ReasonInvalidField, Field: "orchestratorId", Detail: "the id is the gateway's own", Event: e}
	}
	s := submitted{event: e, body: text, result: result{ID: e.ID}}
	var wrong *event.InvalidError
	if errors.As(err, &wrong) {
		s.result = result{
			ID: quote.Cut(wrong.Event.ID), Status: invalid,
			Error: &fault{Code: string(wrong.Reason), Message: wrong.Detail, Field: wrong.Field},
		}
	}
	return s
}

// within is the event as a part of the request's trace, unless it says itself of which
// it is.
func (s submitted) within(header http.Header) submitted {
	if of := header.Get(event.HeaderTraceparent); of != "" && s.event.Trace == nil {
		s.event.Trace = &event.TraceContext{Traceparent: of, Tracestate: header.Get(event.HeaderTracestate)}
	}
	return s
}

// allowed refuses an event for an orchestrator that the key is not for.
func (s submitted) allowed(who *holder) submitted {
	if s.result.Status == "" && !who.mayPublishFor(s.event.OrchestratorID) {
		s.result.Status = invalid
		s.result.Error = &fault{Code: codeForbidden, Message: "this API key may not publish for this orchestrator", Field: "orchestratorId"}
	}
	return s
}

// lanes groups the events that are to be stored by orchestrator, in order.
func lanes(events []submitted) [][]*submitted {
	index := make(map[protocol.OrchestratorID]int)
	var groups [][]*submitted
	for i := range events {
		s := &events[i]
		if s.result.Status != "" {
			continue
		}
		at, ok := index[s.event.OrchestratorID]
		if !ok {
			at = len(groups)
			index[s.event.OrchestratorID] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], s)
	}
	return groups
}
