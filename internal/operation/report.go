package operation

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/logbook"
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
