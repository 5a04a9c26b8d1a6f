// Package heartbeat carries what daemons report of themselves from the edges to
// those who make use of it: bridges write it to Redis, where Neolith's health
// page reads it, and routers derive presence from it.
//
//	edge: Sender ── daemon.heartbeats.<partition>, a batch each second ──┬─▶ bridges (one of them)
//	                                                                     └─▶ the partition's router
//
// It is plain NATS, not the log: a lost heartbeat is replaced by the next one
// after half a minute. Only the newest of a session is of interest, so nothing
// here grows with time.
package heartbeat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	subjectPrefix = "daemon.heartbeats."
	// AllSubjects is every partition's.
	AllSubjects = subjectPrefix + "*"
	// Lifetime is how long a heartbeat says something about its daemon: as long
	// as a daemon may be silent before its connection is closed.
	Lifetime = protocol.MissedHeartbeats * protocol.DefaultHeartbeatInterval

	// maxBatchBytes keeps a message well under NATS's limit of 1 MiB.
	maxBatchBytes = 256 << 10
	// intervalHeader of a batch says how often its edge's daemons are to report, in
	// milliseconds. Edges of versions before do not say.
	intervalHeader = "Heartbeat-Interval"
	// maxInterval is more than anybody waits for a heartbeat.
	maxInterval = 24 * time.Hour
)

// Subject is where edges publish the heartbeats of a partition's orchestrators.
func Subject(p event.Partition) string { return subjectPrefix + strconv.Itoa(int(p)) }

// PartitionOf returns the partition that a subject is for.
func PartitionOf(subject string) (event.Partition, error) {
	rest, ok := strings.CutPrefix(subject, subjectPrefix)
	p, err := strconv.ParseUint(rest, 10, 16)
	if !ok || err != nil {
		return 0, fmt.Errorf("subject %q is not one of heartbeats", quote.Cut(subject))
	}
	return event.Partition(p), nil
}

// IntervalOf returns how often the daemons of a batch's edge are to report; 0 where
// it does not say that.
func IntervalOf(batch *nats.Msg) time.Duration {
	n, err := strconv.ParseInt(batch.Header.Get(intervalHeader), 10, 64)
	if err != nil || n <= 0 || n > maxInterval.Milliseconds() {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// Beat is what one daemon has reported. Its JSON is what nodes of all versions say
// to one another.
type Beat struct {
	Orchestrator protocol.OrchestratorID `json:"orchestratorId"`
	Daemon       protocol.DaemonID       `json:"daemonId"`
	Session      protocol.SessionID      `json:"sessionId"`
	// Status is empty where the daemon did not say.
	Status protocol.Status `json:"status,omitempty"`
	// Metrics is an object as the daemon sent it; nil where it sent none. Under the
	// name "metrics" versions before read numbers alone, and refuse a whole batch for
	// anything else.
	Metrics json.RawMessage `json:"report,omitempty"`
	// ReceivedAt is by the edge's clock, in UTC with milliseconds.
	ReceivedAt time.Time `json:"receivedAt"`
	// Organization is empty where nobody knows it.
	Organization string `json:"organizationId,omitempty"`
	// ConnectedAt is when the daemon was admitted; zero where an older edge does not
	// say.
	ConnectedAt time.Time `json:"connectedAt,omitzero"`
	// Opened says that the daemon has only just been admitted, and has not sent a
	// heartbeat yet.
	Opened bool `json:"opened,omitempty"`
	// Named says that the access token names this daemon id: that the daemon is this
	// orchestrator's is Neolith's word, and not only its own. False where an older
	// edge does not say.
	Named bool `json:"named,omitempty"`
}

// Decode reads a batch. A beat that cannot be used, as a newer version may write
// it, costs only itself: the others are returned, with an error that says what is
// wrong with the first such.
func Decode(data []byte) ([]Beat, error) {
	var texts []json.RawMessage
	if err := json.Unmarshal(data, &texts); err != nil {
		return nil, fmt.Errorf("read heartbeats: %w", err)
	}
	var first error
	beats := make([]Beat, 0, len(texts))
	for i, text := range texts {
		var b struct {
			Beat
			Numbers json.RawMessage `json:"metrics"` // of an edge of the version before
		}
		err := json.Unmarshal(text, &b)
		if err == nil {
			if b.Metrics == nil {
				b.Metrics = b.Numbers
			}
			if len(b.Metrics) > 0 && b.Metrics[0] != '{' {
				b.Metrics = nil // else what is written to Redis would not be JSON
			}
			err = errors.Join(b.Orchestrator.Validate(), b.Daemon.Validate())
		}
		switch {
		case err == nil:
			beats = append(beats, b.Beat)
		case first == nil:
			first = fmt.Errorf("read heartbeat %d of %d: %w", i, len(texts), err)
		}
	}
	return beats, first
}
