package lane

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// MaxRefused is how many refused events may wait for the dead letters before
// the lane takes no more: each holds an event, and none may be forgotten.
const MaxRefused = 256

// CheckEvent returns the check that routers use in partition p of so many: the
// published event's validator, and that it stands under its own orchestrator's
// subject, in that one's partition. leftOut is told which fields an event is taken
// without.
func CheckEvent(maxBytes int, p event.Partition, partitions int, leftOut func(fields []string)) func(eventlog.Message) error {
	return func(m eventlog.Message) error {
		home := event.PartitionOf(m.Token, partitions)
		if home == p && event.Valid(m.Body, maxBytes, m.Token) {
			return nil
		}
		e, err := event.ParseInPlace(m.Body, maxBytes)
		if err != nil {
			return err
		}
		if event.TokenOf(string(e.OrchestratorID)) != m.Token {
			return &event.InvalidError{
				Reason: event.ReasonWrongSubject, Field: "orchestratorId", Event: e,
				Detail: "differs from the orchestrator of the subject it is stored under",
			}
		}
		if home != p {
			return &event.InvalidError{
				Reason: event.ReasonWrongPartition, Event: e,
				Detail: fmt.Sprintf("stands in partition %d, expected %d of %d: its publisher assumes another number of partitions", p, home, partitions),
			}
		}
		if len(e.LeftOut) > 0 {
			leftOut(e.LeftOut)
		}
		return nil
	}
}

// refusal is an invalid event on its way to the dead letters.
type refusal struct {
	message eventlog.Message
	invalid *event.InvalidError
	// waiting: storing it failed, the next try is due at retryAt.
	waiting bool
	backoff time.Duration
	retryAt time.Time
}

func (l *Lane) refuse(m eventlog.Message, err error) {
	var invalid *event.InvalidError
	if !errors.As(err, &invalid) {
		invalid = &event.InvalidError{Reason: event.ReasonInvalidField, Detail: err.Error()}
	}
	l.refused = append(l.refused, &refusal{message: m, invalid: invalid})
	l.effects = append(l.effects, DeadLetter{Message: m, Invalid: invalid})
}

// DeadLettered says whether the refused event with this sequence has been
// stored; if not, it is tried again after a while.
func (l *Lane) DeadLettered(sequence uint64, stored bool) {
	i := slices.IndexFunc(l.refused, func(r *refusal) bool { return r.message.Sequence == sequence })
	if i < 0 {
		return
	}
	if stored {
		l.refused = slices.Delete(l.refused, i, i+1)
		return
	}
	r := l.refused[i]
	r.waiting = true
	r.backoff = min(max(2*r.backoff, firstRetry), lastRetry)
	r.retryAt = l.now.Add(r.backoff)
}

func (l *Lane) retryRefused() {
	for _, r := range l.refused {
		if r.waiting && !l.now.Before(r.retryAt) {
			r.waiting = false
			l.effects = append(l.effects, DeadLetter{Message: r.message, Invalid: r.invalid})
		}
	}
}
