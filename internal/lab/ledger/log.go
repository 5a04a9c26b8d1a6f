package ledger

import "github.com/neolith/daemon-gateway/pkg/protocol"

// judgeLog looks at what the log holds of what was published. A run that never
// looked into the log is not judged by it.
func (j *judge) judgeLog() {
	if len(j.stored) == 0 {
		return
	}
	last := map[protocol.OrchestratorID]Place{}
	for _, p := range j.order {
		k := keyOf(p.event)
		at, stored := j.stored[k]
		if again, twice := j.doubled[k]; twice {
			j.violated(Doubled, k, "the log holds %s of %s at %d and at %d", k.id, k.orchestrator, at.Sequence, again.Sequence)
		}
		if j.promise.ConfirmedOnly && p.confirmed.IsZero() {
			continue
		}
		if !stored {
			if !j.buried[k] {
				j.violated(Unstored, k, "%s of %s", k.id, k.orchestrator)
			}
			continue
		}
		ordered := j.promise.PublishOrder || j.promise.ConfirmedOnly
		if before := last[k.orchestrator]; ordered && before.Sequence > at.Sequence {
			j.violated(Misordered, k, "the log holds %s of %s at %d, before %d", k.id, k.orchestrator, at.Sequence, before.Sequence)
		}
		last[k.orchestrator] = at
	}
}
