package eventlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Epoch is the life of a partition's stream within which its sequences mean
// something: the stream's creation time and a counter that rises when the
// stream is found to have been rolled back. It is comparable; the zero Epoch
// ("") belongs to no stream. Its text needs no escaping in JSON or a KV key.
type Epoch string

// NewEpoch returns the epoch of a stream created at the given time.
func NewEpoch(created time.Time, counter uint64) Epoch {
	return Epoch(fmt.Sprintf("%016x.%08x", created.UnixNano(), counter))
}

// counter returns the epoch's counter; 0 for the zero Epoch and other text.
func (e Epoch) counter() uint64 {
	_, hex, _ := strings.Cut(string(e), ".")
	n, _ := strconv.ParseUint(hex, 16, 64)
	return n
}

// Newer reports whether the epoch came after another of the same partition. The
// counter tells, not the creation time, which goes back when a stream is restored
// from a backup. The zero Epoch is before all others.
func (e Epoch) Newer(than Epoch) bool {
	if own, other := e.counter(), than.counter(); own != other {
		return own > other
	}
	return e > than
}

// belongsTo tells whether the epoch is of a stream created at that time.
func (e Epoch) belongsTo(created time.Time) bool {
	return e == NewEpoch(created, e.counter())
}

// Epoch returns the last known epoch of a partition, without asking.
func (l *Log) Epoch(p event.Partition) Epoch { return l.epochs.get(p) }

// OnEpoch registers a function that is called when the epoch of a partition has
// changed, from Run's goroutine. To be called before Run.
func (l *Log) OnEpoch(f func(p event.Partition, epoch Epoch)) {
	l.epochs.listener = append(l.epochs.listener, f)
}

// RaiseEpoch begins a new epoch of the partition if it is still in the seen
// one, and returns the one that it is in now. To be called by whoever finds a
// position of the seen epoch beyond the stream's last sequence.
func (l *Log) RaiseEpoch(ctx context.Context, p event.Partition, seen Epoch) (Epoch, error) {
	return l.epochs.raise(ctx, p, seen)
}
