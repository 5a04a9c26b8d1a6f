package operation

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/logbook"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// NodeReport is what a node says of itself.
type NodeReport struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Clock is the node's time when it answered.
	Clock time.Time `json:"clock,omitzero"`
	// Ready is what /readyz says, and Since is since when it has said so.
	Ready  bool      `json:"ready"`
	Since  time.Time `json:"since"`
	Checks []Check   `json:"checks"`
	// Holds counts what the node holds, by its name in the plural.
	Holds map[string]int `json:"holds"`
}

// Check is what /readyz says of one thing that a node needs.
type Check struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Advisory bool   `json:"advisory,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// PartitionsReport is what a router serves.
type PartitionsReport struct {
	// Count is how many partitions there are (PARTITIONS).
	Count  int               `json:"count"`
	Served []ServedPartition `json:"served"`
}

// ServedPartition is one that a router serves.
type ServedPartition struct {
	ID int `json:"partition"`
	// Ready says that events are forwarded, and Problem why not.
	Ready   bool   `json:"ready"`
	Problem string `json:"problem,omitempty"`
	// Leaving says that it is being handed over to another router.
	Leaving bool   `json:"leaving,omitempty"`
	Epoch   string `json:"epoch,omitempty"`
	// Position is up to where events have been looked at, Last the newest event as of
	// some seconds ago, and Lag how many lie between.
	Position uint64 `json:"position"`
	Last     uint64 `json:"last"`
	Lag      uint64 `json:"lag"`
	// Refused are events that wait for the dead letters to take them.
	Refused int `json:"refused,omitempty"`
}

// SessionsRequest asks for the last sessions of an orchestrator.
type SessionsRequest struct {
	Orchestrator protocol.OrchestratorID `json:"orchestrator"`
	Limit        int                     `json:"limit"`
}

// MaxSessions are in an answer at most.
const MaxSessions = 100

// SessionsReport has them, the newest first.
type SessionsReport struct {
	// Kept: there is a history, which needs a database.
	Kept     bool          `json:"kept"`
	Sessions []PastSession `json:"sessions"`
}

// PastSession is one as the history shows it, of whichever edge.
type PastSession struct {
	Daemon string `json:"daemon"`
	// State is open, ended, or unknown: its edge has not been heard of lately.
	State     string    `json:"state"`
	Connected time.Time `json:"connected"`
	Ended     time.Time `json:"ended,omitzero"`
	Code      int       `json:"code,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Address   string    `json:"address,omitempty"`
	Edge      string    `json:"edge"`
	Sent      int64     `json:"sent"`
	Acked     int64     `json:"acked"`
}

// SettingsReport has the settings in force as NAME=value lines, without secrets.
type SettingsReport struct {
	Settings string `json:"settings"`
}

// MetricsReport has all metrics as Prometheus gets them, compressed with gzip.
type MetricsReport struct {
	Metrics []byte `json:"metrics"`
}

// LogReport has the last lines of the log, oldest first.
type LogReport struct {
	Lines []string `json:"lines"`
}

// Profiles are those that a node takes of itself: what its goroutines do, as text,
// and who holds its memory, as `go tool pprof` reads it.
var Profiles = []string{"goroutine", "heap"}

// ProfileRequest asks for one of Profiles.
type ProfileRequest struct {
	Profile string `json:"profile"`
}

// ProfileReport has it, compressed with gzip.
type ProfileReport struct {
	Profile []byte `json:"profile"`
}

// LogLevelReport says which changes of log levels are in force after a request.
type LogLevelReport struct {
	// Heeded: the request was for this node.
	Heeded  bool             `json:"heeded"`
	Changes []logbook.Change `json:"changes"`
}

// BalanceReport is what an edge holds, and what it sends away.
type BalanceReport struct {
	Connections int `json:"connections"`
	// Mean is that of all edges, as this one knows them.
	Mean float64 `json:"mean"`
	// Sends is how many connections are more than the edge is to end with, and Rate
	// how many of them are told to go each second.
	Sends int `json:"sends"`
	Rate  int `json:"rate"`
	// Keeps says why none is sent away.
	Keeps string `json:"keeps,omitempty"`
}
