package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// EventRequest asks for an event of an orchestrator.
type EventRequest struct {
	Orchestrator string `json:"orchestrator"`
	Event        string `json:"event"`
}

// EventReport is what an edge's connections of that orchestrator have of it.
type EventReport struct {
	Connections []EventConnection `json:"connections"`
}

// EventConnection is one of them.
type EventConnection struct {
	Session string `json:"session"`
	Daemon  string `json:"daemon"`
	// Position is up to where the log was looked at for it.
	Position uint64 `json:"position"`
	// Held is the event, where it is in hand: once, but for ids that were used again.
	Held []HeldEvent `json:"held,omitempty"`
}

// HeldEvent is an event that is not settled.
type HeldEvent struct {
	Sequence uint64 `json:"sequence"`
	// Written is when it was last written to the daemon, if that is known.
	Written time.Time `json:"written,omitzero"`
	// InHand: the daemon has it, and its acknowledgement is waited for.
	InHand bool `json:"inHand"`
	// Vain is how often it was sent in vain.
	Vain int `json:"vain,omitempty"`
	// GivenUp: it is on its way to the dead letters.
	GivenUp bool `json:"givenUp,omitempty"`
}

// TraceRequest has a node tell what happens to an orchestrator, on TraceSubject of
// Watch, for so long. The same again makes it go on; 0 ends it.
type TraceRequest struct {
	Orchestrator string        `json:"orchestrator"`
	Watch        string        `json:"watch"`
	For          time.Duration `json:"for"`
}

// MaxTrace bounds TraceRequest.For: whoever asks is to ask again, so that nothing is
// told to nobody for long.
const MaxTrace = time.Minute

// TraceSubject is where nodes tell it.
func TraceSubject(watch string) string { return answers + "trace." + watch }

// TraceNews is what a node tells.
type TraceNews struct {
	Member
	trace.Record
	// LeftOut is how many records were not told before, because there were too many.
	LeftOut int `json:"leftOut,omitempty"`
}

// HandleTrace has operators told live what the recorder takes. Its records are kept
// where the node's user may do so.
func (s *Service) HandleTrace(r *trace.Recorder) {
	s.conn.Tolerate("the way of events is not kept: this node's NATS user is not permitted to publish it", eventlog.TraceSubjects)
	s.Handle(Trace, func(_ context.Context, request []byte) (any, error) {
		var t TraceRequest
		if err := json.Unmarshal(request, &t); err != nil {
			return nil, fmt.Errorf("read the request: %w", err)
		}
		if t.Watch == "" || strings.ContainsAny(t.Watch, ".*> \t\r\n") || len(t.Watch) > protocol.MaxIDBytes {
			return nil, errors.New("the watch needs a name of one token")
		}
		token := event.TokenOf(protocol.OrchestratorID(t.Orchestrator))
		until := time.Now().Add(min(t.For, MaxTrace))
		return struct{}{}, r.Watch(t.Watch, token, until, func(record trace.Record, leftOut int) {
			s.tellTrace(TraceSubject(t.Watch), TraceNews{s.self, record, leftOut})
		})
	})
}

// tellTrace tells the operator; what does not arrive is not told again.
func (s *Service) tellTrace(subject string, news TraceNews) {
	text, err := json.Marshal(news)
	if err == nil {
		err = s.conn.NC.Publish(subject, text)
	}
	if err != nil {
		s.logger.Debug("operator not told", "subject", subject, "error", err)
	}
}
