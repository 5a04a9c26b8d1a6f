package cursor

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Version is in every stored record. History: 1, the first.
const Version = 1

var (
	// ErrMalformed is wrapped by Decode for what no version has written.
	ErrMalformed = errors.New("malformed cursor record")
	// ErrVersion is wrapped by Decode for a record of another version. It must
	// not be overwritten: a newer program of the cluster still needs it.
	ErrVersion = errors.New("cursor record of another version")
)

// wireRecord is the JSON of a record. Keys are short because a cluster keeps
// one for each orchestrator and writes it each second.
type wireRecord struct {
	Version int                             `json:"v"`
	Epoch   eventlog.Epoch                  `json:"e"`
	Daemons map[protocol.DaemonID]wireEntry `json:"d,omitempty"`
	// Awaited holds From and Written, in milliseconds, of each.
	Awaited  map[protocol.DaemonID][2]int64 `json:"p,omitempty"`
	Presumed map[protocol.DaemonID]uint64   `json:"o,omitempty"`
	Lost     *wireLost                      `json:"l,omitempty"`
}

// wireLost is the JSON of a loss. A release that does not know it drops it where it
// rewrites a record.
type wireLost struct {
	SinceMillis int64                   `json:"w"`
	Looked      []protocol.Subscription `json:"s,omitempty"`
}

// wireEntry is the JSON of an entry. The release before generations knows
// neither g, h, u nor the record's p and o, and drops them where it rewrites a record:
// an entry without g and h is one that it has written. What a version that does not know
// t has counted is no event's.
type wireEntry struct {
	Generation uint64 `json:"g,omitempty"`
	Edge       string `json:"h,omitempty"`
	Floor      uint64 `json:"f"`
	// Settled holds first and last of each range in turn.
	Settled       []uint64                `json:"r,omitempty"`
	Unnamed       uint64                  `json:"u,omitempty"`
	Subscriptions []protocol.Subscription `json:"s,omitempty"`
	AnswersFor    []protocol.DaemonID     `json:"a,omitempty"`
	SendsOf       uint64                  `json:"q,omitempty"`
	SendsStored   int64                   `json:"t,omitempty"`
	SendsCount    int                     `json:"n,omitempty"`
	Sent          uint64                  `json:"x,omitempty"`
	// Left is what a release without h has instead: no edge holds a connection.
	Left          bool  `json:"l,omitempty"`
	WrittenMillis int64 `json:"w"`
}

// Encode writes the record as JSON, the same text for equal records. Written
// is kept to the millisecond.
func (rec Record) Encode() ([]byte, error) {
	if data, ok := rec.appendTo(make([]byte, 0, 1<<10)); ok {
		return slices.Clone(data), nil // kept for as long as the connection
	}
	return rec.marshal()
}

// marshal is Encode without appendTo.
func (rec Record) marshal() ([]byte, error) {
	w := wireRecord{
		Version: Version, Epoch: rec.Epoch, Daemons: make(map[protocol.DaemonID]wireEntry, len(rec.Daemons)), Presumed: rec.Presumed,
	}
	for id, e := range rec.Daemons {
		w.Daemons[id] = e.wire()
	}
	if len(rec.Awaited) > 0 {
		w.Awaited = make(map[protocol.DaemonID][2]int64, len(rec.Awaited))
	}
	for id, a := range rec.Awaited {
		w.Awaited[id] = a.wire()
	}
	if !rec.Lost.Since.IsZero() {
		w.Lost = &wireLost{rec.Lost.Since.UnixMilli(), rec.Lost.Looked}
	}
	data, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode cursor record: %w", err)
	}
	return data, nil
}

// Decode reads what Encode wrote. No bytes are the zero Record. Its errors
// wrap ErrMalformed or ErrVersion.
func Decode(data []byte) (Record, error) {
	if len(data) == 0 {
		return Record{}, nil
	}
	if rec, ok := scan(data); ok {
		return rec, nil
	}
	return unmarshal(data)
}

// unmarshal is Decode without scan.
func unmarshal(data []byte) (Record, error) {
	var w wireRecord
	if err := json.Unmarshal(data, &w); err != nil {
		var other struct {
			Version int `json:"v"`
		}
		if json.Unmarshal(data, &other) == nil && other.Version > Version {
			return Record{}, fmt.Errorf("%w: %d, expected %d", ErrVersion, other.Version, Version)
		}
		return Record{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case w.Version > Version:
		return Record{}, fmt.Errorf("%w: %d, expected %d", ErrVersion, w.Version, Version)
	case w.Version < 1:
		return Record{}, fmt.Errorf("%w: version %d", ErrMalformed, w.Version)
	}
	rec := Record{Epoch: w.Epoch, Daemons: make(map[protocol.DaemonID]Entry, len(w.Daemons)), Presumed: w.Presumed}
	if w.Lost != nil {
		rec.Lost = w.Lost.lost()
	}
	for id, e := range w.Daemons {
		if len(e.Settled)%2 != 0 {
			return Record{}, fmt.Errorf("%w: a settled range without end", ErrMalformed)
		}
		rec.Daemons[id] = e.entry()
	}
	for id, a := range w.Awaited {
		if rec.Awaited == nil {
			rec.Awaited = make(map[protocol.DaemonID]Awaited, len(w.Awaited))
		}
		rec.Awaited[id] = awaited(a)
	}
	return rec, nil
}

func (e Entry) wire() wireEntry {
	var settled []uint64
	for _, r := range e.Settled {
		settled = append(settled, r.First, r.Last)
	}
	edge := e.Edge
	if edge == UnknownEdge {
		edge = ""
	}
	return wireEntry{
		Generation: e.Generation, Edge: edge, Floor: e.Floor, Settled: settled, Unnamed: e.Unnamed,
		Subscriptions: e.Subscriptions, AnswersFor: e.AnswersFor,
		SendsOf: e.Sends.Sequence, SendsStored: e.Sends.Stored, SendsCount: e.Sends.Count, Sent: e.Sent,
		Left: e.Edge == "", WrittenMillis: e.Written.UnixMilli(),
	}
}

func (w wireLost) lost() Lost { return Lost{time.UnixMilli(w.SinceMillis).UTC(), w.Looked} }

func (a Awaited) wire() [2]int64 { return [2]int64{int64(a.From), a.Written.UnixMilli()} }

func awaited(wire [2]int64) Awaited {
	return Awaited{uint64(max(1, wire[0])), time.UnixMilli(wire[1]).UTC()}
}

func (w wireEntry) entry() Entry {
	e := Entry{
		Generation: w.Generation, Edge: w.Edge, Unnamed: w.Unnamed, Subscriptions: w.Subscriptions, AnswersFor: w.AnswersFor,
		Sends: Sends{w.SendsOf, w.SendsStored, w.SendsCount}, Sent: w.Sent, Written: time.UnixMilli(w.WrittenMillis).UTC(),
	}
	if e.Edge == "" && !w.Left {
		e.Edge = UnknownEdge
	}
	var settled []Range
	for i := 0; i < len(w.Settled); i += 2 {
		settled = append(settled, Range{w.Settled[i], w.Settled[i+1]})
	}
	e.Floor, e.Settled = normalize(w.Floor, settled, MaxRanges)
	return e
}
