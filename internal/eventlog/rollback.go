package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Mark says which message was seen last in a partition: where it stood and when
// it was stored. After a rollback another message comes to stand there, stored
// at another time. The zero Mark: none was seen.
type Mark struct {
	Sequence uint64 `json:"sequence"`
	// Stored is zero where only the sequence is known.
	Stored time.Time `json:"stored"`
}

// Standing is how a partition relates to the message that was seen in it.
type Standing int

// The standings.
const (
	// Continues: it is the one in which the message was seen, and has all that
	// was stored there up to the message and is still retained.
	Continues Standing = iota
	// Behind: its leader has not come as far. One that was just elected may not
	// have applied yet what a majority has stored, and one that was deposed may
	// not know it, so that only time tells this from a rollback.
	Behind
	// RolledBack: it was set back to before the message, and has grown since.
	RolledBack
	// Superseded: it is in another epoch.
	Superseded
)

// Evidence is what the leader of a partition says about a Mark.
type Evidence struct {
	// Last is the newest sequence.
	Last uint64
	// At is when the message at the Mark's sequence was stored; zero: it is not
	// retained any more.
	At time.Time
	// Later is where the oldest message stands that was stored after the Mark's by
	// more than ClockLeeway; 0: there is none. It is needed only where At is zero.
	Later uint64
}

// ClockLeeway is how much stored times may fall where sequences rise, because the
// next leader's clock is behind that of the one before. A rollback takes longer: a
// server starts again or a stream is restored.
const ClockLeeway = 2 * time.Second

// Judge tells what the evidence proves. A message that is no longer retained
// (its age, its orchestrator's limit, a purge) proves nothing, so the others
// have to: what was stored well after the Mark's message stands above it, unless
// the partition was rolled back. And if nothing of that is left up to the Mark, no
// position up to it can hide an event.
func (m Mark) Judge(e Evidence) Standing {
	switch {
	case e.Last < m.Sequence:
		return Behind
	case m.Stored.IsZero():
		return Continues
	case e.At.IsZero() && e.Later > 0 && e.Later <= m.Sequence,
		!e.At.IsZero() && !e.At.Equal(m.Stored):
		return RolledBack
	}
	return Continues
}

// Compare asks the leader of a partition whether it still is the one in which
// mark was seen, in that epoch. Like Refresh it notices a stream that was
// created again.
func (l *Log) Compare(ctx context.Context, p event.Partition, epoch Epoch, mark Mark) (State, Standing, error) {
	state, err := l.Refresh(ctx, p)
	if err != nil {
		return State{}, Behind, err
	}
	if state.Epoch != epoch {
		return state, Superseded, nil
	}
	evidence := Evidence{Last: state.Last}
	if mark.Sequence > 0 && !mark.Stored.IsZero() && state.First <= mark.Sequence && mark.Sequence <= state.Last {
		start := time.Now()
		err := l.jet.Request(ctx, func(ctx context.Context) error { return l.search(ctx, p, mark, &evidence) })
		l.metrics.observe(opInfo, start, err)
		if err != nil {
			return State{}, Behind, fmt.Errorf("message %d of partition %d: %w", mark.Sequence, p, err)
		}
	}
	return state, mark.Judge(evidence), nil
}

// search asks the leader for the evidence. It does not use direct gets: any
// replica answers these, also one that has not followed a rollback yet.
func (l *Log) search(ctx context.Context, p event.Partition, mark Mark, e *Evidence) error {
	found, err := l.jet.At(ctx, event.StreamName(p), mark.Sequence)
	if err != nil {
		return err
	}
	if found.Sequence == mark.Sequence {
		e.At = found.Stored
		return nil
	}
	found, err = l.jet.FirstSince(ctx, event.StreamName(p), event.Subject(p, "*"), mark.Stored.Add(ClockLeeway))
	e.Later = found.Sequence
	return err
}
