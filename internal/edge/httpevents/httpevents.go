// Package httpevents is what daemons may ask by HTTP, and what they are
// answered: GET /api/daemon/events lists an orchestrator's stored events, DELETE
// acknowledges some. It is pure: package edge brings requests, log and sessions.
//
// Events are listed in the order of the log, each with the time at which the log
// stored it as its createdAt, and since asks for those stored later. The
// publisher's own time would not do: publishers' clocks disagree, so that a
// client that asks for all after the last it saw would pass some by. For the
// same reason createdAt is exact to the nanosecond: events of one millisecond may
// be on two pages.
package httpevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Path is where all of this is.
const Path = "/api/daemon/events"

const (
	// MaxLimit is the largest page that may be asked for.
	MaxLimit     = 1000
	defaultLimit = 100
	// defaultAge is how far back a listing begins without since.
	defaultAge = 5 * time.Minute
	// MaxBodyBytes bounds the body of a DELETE: as many ids as may be, each as
	// long as may be and written in the longest way.
	MaxBodyBytes = 1 << 20
)

// Query is what a GET asks for.
type Query struct {
	// Since: only events stored after it.
	Since time.Time
	// Limit is the most events of the answer.
	Limit int
}

// ParseQuery reads the parameters of a GET that came now. The error tells the
// client what is wrong.
func ParseQuery(values url.Values, now time.Time) (Query, error) {
	q := Query{Since: now.Add(-defaultAge), Limit: defaultLimit}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxLimit {
			return Query{}, fmt.Errorf("limit: expected a number from 1 to %d", MaxLimit)
		}
		q.Limit = n
	}
	if text := values.Get("since"); text != "" {
		if strings.Contains(text, "T") {
			text = strings.Replace(text, " ", "+", 1) // a zone whose + was not escaped
		}
		since, err := protocol.ParseTime(text)
		if err != nil {
			return Query{}, fmt.Errorf("since: %w", err)
		}
		q.Since = since
	}
	// What lies far back is the same as the beginning, and what lies farther
	// cannot be counted in nanoseconds.
	if beginning := time.Unix(0, 0); q.Since.Before(beginning) {
		q.Since = beginning
	}
	return q, nil
}

// ParseAck returns the distinct ids that the body of a DELETE names. The error
// tells the client what is wrong.
func ParseAck(body []byte) ([]string, error) {
	var request struct {
		EventIDs idList `json:"eventIds"`
	}
	err := json.Unmarshal(body, &request)
	switch {
	case errors.Is(err, errTooManyIDs):
		return nil, fmt.Errorf("eventIds: got more than %d ids, expected 1 to %d", protocol.MaxAckIDs, protocol.MaxAckIDs)
	case err == nil && len(request.EventIDs) == 0:
		return nil, fmt.Errorf("eventIds: got 0 ids, expected 1 to %d", protocol.MaxAckIDs)
	}
	if err != nil {
		return nil, errors.New(`expected a JSON object such as {"eventIds":["event_1"]}`)
	}
	seen := make(map[string]bool, len(request.EventIDs))
	ids := make([]string, 0, len(request.EventIDs))
	for i, id := range request.EventIDs {
		switch {
		case id == "":
			return nil, fmt.Errorf("eventIds[%d]: is empty, expected a non-empty string", i)
		case seen[id], len(id) > protocol.MaxIDBytes: // no event has such an id
			continue
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids, nil
}

// idList is as many ids as may be acknowledged at once. It counts while it reads,
// so that a body of many small ones takes no memory.
type idList []string

var errTooManyIDs = errors.New("too many ids")

// UnmarshalJSON implements json.Unmarshaler.
func (l *idList) UnmarshalJSON(text []byte) error {
	elements := json.NewDecoder(bytes.NewReader(text))
	if start, err := elements.Token(); err != nil || start != json.Delim('[') {
		return errors.New("expected an array")
	}
	for elements.More() {
		if len(*l) == protocol.MaxAckIDs {
			return errTooManyIDs
		}
		var id string
		if err := elements.Decode(&id); err != nil {
			return err
		}
		*l = append(*l, id)
	}
	return nil
}

// AppendAcknowledged appends the answer to a DELETE that has acknowledged n events.
func AppendAcknowledged(dst []byte, n int) []byte {
	dst = append(dst, `{"success":true,"acknowledged":`...)
	return append(strconv.AppendInt(dst, int64(n), 10), '}')
}

// Viewer is who asks, as the token says.
type Viewer struct {
	Orchestrator event.Token
	Daemon       protocol.DaemonID // empty if the token names none
	Scopes       auth.Scopes
	// MaxEventBytes is the validator's limit.
	MaxEventBytes int
}

// Sees returns an event of the log if it is meant for the viewer: valid, of its
// own orchestrator (invariant 5), addressed to all daemons or to its own, and
// allowed by its scopes.
func (v Viewer) Sees(body []byte) (event.Event, bool) {
	ev, err := event.ParseInPlace(body, v.MaxEventBytes)
	visible := err == nil && event.TokenOf(ev.OrchestratorID) == v.Orchestrator &&
		(ev.DaemonID == "" || ev.DaemonID == v.Daemon) && v.Scopes.AllowsEvent(ev.Type)
	return ev, visible
}
