package protocol

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxIDBytes is the longest orchestrator, daemon or message id accepted.
// Longer ids would make NATS control lines and gossip messages unbounded.
const MaxIDBytes = 128

// ReservedPrefix starts the ids of orchestrators that nobody has: the gateway
// uses them itself, to try its own path.
const ReservedPrefix = "_canary_"

// OrchestratorID names an orchestrator: an AI worker with an account in Neolith.
type OrchestratorID string

// Reserved reports whether the id is one of the gateway's own. No daemon may
// authenticate with it, and nobody may address an event to it.
func (id OrchestratorID) Reserved() bool { return strings.HasPrefix(string(id), ReservedPrefix) }

// DaemonID names a process that runs an orchestrator.
type DaemonID string

// SessionID names one WebSocket connection of a daemon; a UUID.
type SessionID string

// Validate reports whether the id is 1 to MaxIDBytes bytes of valid UTF-8.
func (id OrchestratorID) Validate() error { return validateID("orchestrator id", string(id)) }

// Validate reports whether the id is 1 to MaxIDBytes bytes of valid UTF-8.
func (id DaemonID) Validate() error { return validateID("daemon id", string(id)) }

func validateID(what, id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%s is empty, expected 1 to %d bytes", what, MaxIDBytes)
	case len(id) > MaxIDBytes:
		return fmt.Errorf("%s has %d bytes, expected 1 to %d", what, len(id), MaxIDBytes)
	case !utf8.ValidString(id):
		return fmt.Errorf("%s is not valid UTF-8", what)
	}
	return nil
}
