package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/neolith/daemon-gateway/internal/bridge/intake"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// archive is what the filer needs of the event log.
type archive interface {
	Publish(ctx context.Context, orchestrator event.Token, eventID string, body []byte) (eventlog.Ack, error)
	DeadLetter(ctx context.Context, letter eventlog.DeadLetter) error
}

// outcome is what has become of a message.
type outcome string

const (
	outcomeStored    outcome = "stored"
	outcomeDuplicate outcome = "duplicate"
	outcomeWaiting   outcome = "waiting" // for its addressee to be known
	outcomeRejected  outcome = "rejected"
)

var outcomes = []outcome{outcomeStored, outcomeDuplicate, outcomeWaiting, outcomeRejected}

// filer stores one event after the other and waits for each: in the log, among
// those whose addressee is not known, or in the dead letters. It serves all that
// do not come through the pump. It may be used by many at the same time; the
// order of an orchestrator is that of the calls where one waits for another.
type filer struct {
	archive  archive
	book     *addressBook // nil where tokens alone decide
	maxBytes int
	metrics  *metrics
}

// errRefused means that the log will never take an event.
var errRefused = errors.New("refused")

// Store keeps a valid event that came over HTTP.
func (f *filer) Store(ctx context.Context, e event.Event, body []byte) (intake.Outcome, error) {
	j, kept, err := f.place(ctx, publishUser(e, body))
	if err != nil || kept {
		return intake.Outcome{Waiting: kept}, err
	}
	if j.kind == burying {
		return intake.Outcome{}, fmt.Errorf("%w: %s", intake.ErrRefused, j.detail)
	}
	ack, err := f.publish(ctx, j)
	if errors.Is(err, errRefused) {
		err = fmt.Errorf("%w: %w", intake.ErrRefused, err)
	}
	return intake.Outcome{Duplicate: ack.Duplicate, Partition: ack.Partition, Sequence: ack.Sequence}, err
}

// file stores what is to be done with a message, in the dead letters if nowhere
// else.
func (f *filer) file(ctx context.Context, j job) (outcome, error) {
	placed, kept, err := f.place(ctx, j)
	switch {
	case err != nil:
		return "", err
	case kept:
		return outcomeWaiting, nil
	}
	return f.fileResolved(ctx, placed)
}

// place gives an event its orchestrator, or keeps it among those that wait.
func (f *filer) place(ctx context.Context, j job) (placed job, kept bool, err error) {
	if j = f.book.address(j); j.kind != addressing {
		return j, false, nil
	}
	placed, kept, err = f.book.place(ctx, j, f.maxBytes, f.metrics)
	if eventlog.Refused(err) {
		return j.bury(event.ReasonRefused, err.Error()), false, nil
	}
	return placed, kept, err
}

// fileResolved is file for what has its orchestrator.
func (f *filer) fileResolved(ctx context.Context, j job) (outcome, error) {
	if j.kind == publishing {
		ack, err := f.publish(ctx, j)
		switch {
		case err == nil && ack.Duplicate:
			return outcomeDuplicate, nil
		case err == nil:
			return outcomeStored, nil
		case !errors.Is(err, errRefused):
			return "", err
		}
		j = j.bury(event.ReasonRefused, err.Error())
	}
	if err := f.archive.DeadLetter(ctx, j.letter()); err != nil {
		return "", err
	}
	f.metrics.reject(j.reason)
	return outcomeRejected, nil
}

// publish marks what the log refuses for good; all else is for another time.
func (f *filer) publish(ctx context.Context, j job) (eventlog.Ack, error) {
	ack, err := f.archive.Publish(ctx, event.TokenOf(j.event.OrchestratorID), j.event.ID, j.body)
	if eventlog.Refused(err) {
		err = fmt.Errorf("%w: %w", errRefused, err)
	}
	return ack, err
}
