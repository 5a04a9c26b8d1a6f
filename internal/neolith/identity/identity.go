// Package identity resolves the ids by which Neolith calls an orchestrator to
// the one that the gateway uses everywhere: vps.id, though events may also name
// it by vps.user_id. Edges ask for the ids in tokens, bridges for those in
// events.
//
//	Resolve ── in the cache, not too old ──▶ answer
//	   │ no
//	   ├── PostgreSQL has failed lately ──▶ an older answer, else ErrUnavailable
//	   ▼
//	waiting ids, each once ── 2 ms ──▶ one query for up to 1,000 ──▶ cache ──▶ answers
//
// The package decides nothing about who may connect: it says Unknown or
// Unavailable, and its callers know what that means for them.
package identity

import (
	"errors"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// OrganizationID names the organization that an orchestrator belongs to.
type OrganizationID string

// Identity is an orchestrator that exists.
type Identity struct {
	// Orchestrator is the canonical id, vps.id.
	Orchestrator protocol.OrchestratorID
	// User is the other one, vps.user_id; empty if it has none.
	User protocol.OrchestratorID
	// Organization is empty if Neolith has none for it.
	Organization OrganizationID
}

// Answer is what is known of one id: an identity, or an error that is
// ErrUnknown or ErrUnavailable.
type Answer struct {
	Identity Identity
	Err      error
}

var (
	// ErrUnknown means that PostgreSQL has answered, within the last seconds,
	// that there is no such orchestrator.
	ErrUnknown = errors.New("no such orchestrator")
	// ErrUnavailable means that PostgreSQL cannot be asked now, and the id is
	// not remembered either.
	ErrUnavailable = errors.New("PostgreSQL cannot be asked for the orchestrator")
)

// Config bounds what is remembered.
type Config struct {
	IdentityCacheSize int           `help:"Orchestrators whose identity is remembered, about 400 bytes each. More than are active at a time is of no use." default:"200000" min:"1" group:"PostgreSQL"`
	IdentityCacheTTL  time.Duration `name:"identity-cache-ttl" help:"How long an identity is believed before PostgreSQL is asked again, and so how long a deleted orchestrator is still known." default:"5m" min:"1s" group:"PostgreSQL"`

	// QueryTimeout is how long PostgreSQL may take to answer; 0: two seconds. It is
	// no setting, but for tests on a machine that may stand still for as long.
	QueryTimeout time.Duration `kong:"-"`
}

// plausible reports whether there may be an orchestrator with this id. What
// PostgreSQL would not even take as text must not reach it, because the whole
// batch would fail.
func plausible(id protocol.OrchestratorID) bool {
	return id.Validate() == nil && !strings.ContainsRune(string(id), 0)
}
