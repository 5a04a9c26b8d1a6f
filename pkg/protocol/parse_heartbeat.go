package protocol

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// heartbeat reads what it can use. All parts are optional, and whatever stands
// in one: the sign of life is what keeps the connection.
func (r *fieldReader) heartbeat(f fields) ClientPayload {
	p := Heartbeat{Status: r.status(f), Metrics: r.metrics(f), InProgress: r.inProgress(f)}
	r.tellLeftOut()
	return p
}

func (r *fieldReader) leaveOut(name, detail string) {
	r.leftOut = append(r.leftOut, leftOut{name, detail})
}

// tellLeftOut makes a fault of what was left out, unless there is a worse one.
func (r *fieldReader) tellLeftOut() {
	if len(r.leftOut) == 0 || r.fault != nil {
		return
	}
	var names, details []string
	for _, l := range r.leftOut {
		names = append(names, l.name)
		details = append(details, l.name+": "+l.detail)
	}
	r.partial = true
	r.fail(payloadPath+names[0], strings.Join(details, "; "))
	r.fault.LeftOut = names
	r.fault.Message = "the message counts, but this was left out of it: " + strings.Join(names, ", ")
}

func (r *fieldReader) status(f fields) Status {
	raw, ok := f.get("status")
	if !ok {
		return ""
	}
	text, isText := textOf(raw)
	if s := Status(text); isText && slices.Contains([]Status{StatusActive, StatusIdle, StatusBusy}, s) {
		return s
	}
	r.leaveOut("status", "expected active, idle or busy")
	return ""
}

func (r *fieldReader) metrics(f fields) json.RawMessage {
	raw, ok := f.get("metrics")
	if !ok {
		return nil
	}
	metrics, problem := objectOf(raw)
	switch {
	case problem != "":
		r.leaveOut("metrics", "expected an object, "+problem)
	case len(raw) > MaxMetricsBytes:
		r.leaveOut("metrics", fmt.Sprintf("has %d bytes, expected at most %d", len(raw), MaxMetricsBytes))
	case len(metrics) > 0:
		return slices.Clone(raw)
	}
	return nil
}

// inProgress reads those that are valid ids, up to MaxAckIDs.
func (r *fieldReader) inProgress(f fields) (ids []string) {
	raw, ok := f.get("inProgress")
	if !ok {
		return nil
	}
	items, isList := listOf(raw)
	if !isList {
		r.leaveOut("inProgress", "expected a list, got "+kindOf(raw))
		return nil
	}
	bad := 0
	for _, item := range items[:min(len(items), MaxAckIDs)] {
		id, isText := textOf(item)
		if !isText || validateID("id", id) != nil {
			bad++
			continue
		}
		ids = append(ids, id)
	}
	if bad += max(0, len(items)-MaxAckIDs); bad > 0 {
		r.leaveOut("inProgress", fmt.Sprintf("%d of %d items, expected up to %d ids of 1 to %d bytes", bad, len(items), MaxAckIDs, MaxIDBytes))
	}
	return ids
}
