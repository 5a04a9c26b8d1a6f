package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/bridge/waiting"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// identities knows which orchestrator an id means: its own, or its user's.
type identities interface {
	Cached(id protocol.OrchestratorID) (identity.Identity, bool)
	Resolve(ctx context.Context, id protocol.OrchestratorID) (identity.Identity, error)
	ResolveMany(ctx context.Context, ids []protocol.OrchestratorID) map[protocol.OrchestratorID]identity.Answer
}

// unresolved is where events wait for their addressee to be known.
type unresolved interface {
	Keep(ctx context.Context, addressee event.Token, eventID string, body []byte) (duplicate bool, err error)
	KeepAsync(ctx context.Context, addressee event.Token, eventID string, body []byte, done func(duplicate bool, err error))
}

// addressBook turns the ids to which events are addressed into orchestrators.
// What it consists of may be used by all that store events at the same time.
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

// holdPoll is how soon an event that has to hold is looked at again, by those
// who have nothing else to do meanwhile.
const holdPoll = 50 * time.Millisecond

// place finds the orchestrator of an event to be stored, or stores it among
// those that wait; kept then tells so. It is for those who store one event of an
// addressee at a time; the pump does the same without waiting.
func (a *addressBook) place(ctx context.Context, j job, maxBytes int, m *metrics) (placed job, kept bool, err error) {
	given := j.event.OrchestratorID
	why := causeBehind
	if !a.waiting.Waits(given) {
		found, err := a.identities.Resolve(ctx, given)
		if err == nil && !a.waiting.Waits(given) {
			return resolvedTo(j, found.Orchestrator, maxBytes), false, nil
		}
		if err != nil {
			why = causeOf(err)
		}
	}
	a.waiting.Join(given)
	for {
		found, known := a.identities.Cached(given)
		switch a.waiting.Turn(given, known, false) {
		case waiting.Direct:
			return resolvedTo(j, found.Orchestrator, maxBytes), false, nil
		case waiting.Store:
			return job{}, true, a.keep(ctx, j.wait(why), m)
		}
		select {
		case <-time.After(holdPoll):
		case <-ctx.Done():
			a.waiting.Leave(given)
			return job{}, false, fmt.Errorf("wait for older events of the addressee: %w", ctx.Err())
		}
	}
}

func (a *addressBook) keep(ctx context.Context, j job, m *metrics) error {
	given := j.event.OrchestratorID
	duplicate, err := a.unresolved.Keep(ctx, event.TokenOf(given), j.event.ID, j.body)
	if err != nil {
		a.waiting.NotStored(given)
		a.waiting.Leave(given)
		return err
	}
	a.waiting.Stored(given)
	m.kept(j.cause, duplicate)
	return nil
}
