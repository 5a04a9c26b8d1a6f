package bridge

import (
	"context"
	"errors"

	"github.com/neolith/daemon-gateway/internal/bridge/waiting"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// identities knows which orchestrator an id means: its own, or its user's.
type identities interface {
	Cached(id protocol.OrchestratorID) (identity.Identity, bool)
	ResolveMany(ctx context.Context, ids []protocol.OrchestratorID) map[protocol.OrchestratorID]identity.Answer
}

// unresolved is where events wait for their addressee to be known.
type unresolved interface {
	KeepAsync(ctx context.Context, addressee event.Token, eventID string, body []byte, done func(duplicate bool, err error))
}

// addressBook turns the ids to which events are addressed into orchestrators:
// the pump for what comes in, the releaser for what has waited.
type addressBook struct {
	identities identities
	waiting    *waiting.List
	unresolved unresolved // set before the first event is taken
}

// cause is why an event has to wait: a label of a metric.
type cause string

const (
	causeUnknown     cause = "unknown"     // Neolith has no such orchestrator
	causeUnavailable cause = "unavailable" // PostgreSQL cannot be asked
	causeBehind      cause = "behind"      // older events of the addressee wait
)

var causes = []cause{causeUnknown, causeUnavailable, causeBehind}

func causeOf(err error) cause {
	if errors.Is(err, identity.ErrUnknown) {
		return causeUnknown
	}
	return causeUnavailable
}

// address says that an event to be stored must first be given its orchestrator,
// if there are identities at all. Canaries have none.
func (a *addressBook) address(j job) job {
	if a != nil && j.kind == publishing && !j.event.OrchestratorID.Reserved() {
		j.kind = addressing
	}
	return j
}

// resolvedTo is a job whose orchestrator has been found. The text of an event that names
// it already stays as it is.
func resolvedTo(j job, orchestrator protocol.OrchestratorID, maxBytes int) job {
	if j.event.OrchestratorID == orchestrator {
		return publishUser(j.event, j.body)
	}
	return readdress(j.event, orchestrator, j.body, maxBytes)
}

// wait turns a job into one for the stream of those that wait.
func (j job) wait(why cause) job {
	j.kind, j.cause = keeping, why
	return j
}
