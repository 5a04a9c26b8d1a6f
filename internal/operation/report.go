package operation

import "time"

// NodeReport is what a node says of itself.
type NodeReport struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
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
