package edge

import (
	"context"
	"net/netip"
	"time"

	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/internal/neolith/history"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// record is what the history is to know of a connection. A nil one notes
// nothing: there is no history. Its methods are called with the connection's mu
// held.
type record struct {
	recorder *history.Recorder
	session  history.Session
}

func newRecord(recorder *history.Recorder, id protocol.SessionID, remote netip.Addr, now time.Time) *record {
	if recorder == nil {
		return nil
	}
	return &record{recorder: recorder, session: history.Session{ID: id, RemoteAddress: remote, Connected: now}}
}

func (r *record) admitted(orchestrator protocol.OrchestratorID, daemon protocol.DaemonID, now time.Time) {
	if r != nil {
		r.session.Orchestrator, r.session.Daemon, r.session.Authenticated = orchestrator, daemon, now
		r.recorder.Record(r.session)
	}
}

func (r *record) subscribed(now time.Time) {
	if r != nil && r.session.Subscribed.IsZero() {
		r.session.Subscribed = now
		r.recorder.Record(r.session)
	}
}

func (r *record) sent(again bool) {
	if r == nil {
		return
	}
	r.session.Sent++
	if again {
		r.session.Redelivered++
	}
}

func (r *record) acked(events int) {
	if r != nil {
		r.session.Acked += int64(events)
	}
}

// ended is the last that is noted. Whoever was not admitted leaves no record.
func (r *record) ended(e socket.Ending, now time.Time) {
	if r != nil && !r.session.Authenticated.IsZero() {
		r.session.Ended, r.session.CloseCode, r.session.CloseReason = now, e.Code, e.Reason
		r.recorder.Record(r.session)
	}
}

// flushHistory writes the sessions that have not been written yet.
func (e *Edge) flushHistory(ctx context.Context) error {
	if e.history == nil {
		return nil
	}
	return e.history.Flush(ctx)
}
