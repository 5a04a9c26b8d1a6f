package eventlog

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// epochLook is how often a node looks whether the cluster bucket has changed,
	// which costs one small question.
	epochLook = time.Second
	// epochInterval is how often the epochs are read in full whatever that look has
	// shown: replicas that lag answer it, too.
	epochInterval = 30 * time.Second
)

// run keeps the epochs up to date and tells the listeners of changes, until ctx
// ends.
func (e *epochs) run(ctx context.Context) error {
	looks := make(chan struct{})
	go func() {
		defer close(looks)
		look := look{newest: e.newest, read: e.readAll}
		lifecycle.Every(ctx, epochLook, func(now time.Time) { look.once(ctx, now) })
	}()
	defer func() { <-looks }()
	for {
		e.tell()
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		}
	}
}

// look finds out whether the cluster bucket has changed. It asks, instead of
// having the server tell: that would take a consumer, and whoever may make
// consumers may have the server push stored messages to any subject, as if they
// had been published there. Its methods belong to one goroutine.
type look struct {
	newest func(context.Context) (uint64, error) // the newest sequence of the bucket
	read   func(context.Context) error           // reads all epochs

	seen  uint64    // the newest sequence at the last look
	again bool      // the epochs are to be read at the next look
	last  time.Time // when they were read
}

// once reads the epochs where the bucket has changed, or has just done so, since
// the replica that is read may lag behind the one that was looked at; where it was
// away, since it may be another one that has come as far; and where they have not
// been read for long.
func (l *look) once(ctx context.Context, now time.Time) {
	newest, err := l.newest(ctx)
	if err != nil {
		newest = 0 // no bucket's
	}
	changed := err == nil && newest != l.seen
	l.seen = newest
	if !changed && !l.again && now.Sub(l.last) < epochInterval {
		return
	}
	l.last = now
	l.again = l.read(ctx) != nil || changed
}

// newest returns the newest sequence of the cluster bucket, as any replica has it.
func (e *epochs) newest(ctx context.Context) (sequence uint64, err error) {
	err = e.jet.Request(ctx, func(ctx context.Context) error {
		sequence, err = e.jet.ReplicaLast(ctx, BucketStream(ClusterBucket))
		return err
	})
	return sequence, err
}

func (e *epochs) learnEntry(key string, value []byte) {
	p, err := strconv.Atoi(strings.TrimPrefix(key, epochKeyPrefix))
	if err == nil && p >= 0 && p < len(e.known) {
		e.learn(event.Partition(p), Epoch(value))
	}
}

func (e *epochs) readAll(ctx context.Context) error {
	subjects := make([]string, len(e.known))
	for p := range subjects {
		subjects[p] = BucketSubject(ClusterBucket, epochKey(event.Partition(p)))
	}
	found, err := e.stored(ctx, BucketStream(ClusterBucket), subjects)
	if err != nil {
		return err // counted there
	}
	for p, subject := range subjects {
		e.learnEntry(epochKey(event.Partition(p)), found[subject].Data)
		if e.get(event.Partition(p)).Newer(Epoch(found[subject].Data)) {
			e.restore(ctx, event.Partition(p))
		}
	}
	return nil
}

// restore writes what is known here into a bucket that has an older epoch,
// because it was rolled back. One that was read from a replica that lags has it
// already.
func (e *epochs) restore(ctx context.Context, p event.Partition) {
	err := e.jet.Request(ctx, func(ctx context.Context) error {
		_, err := e.advance(ctx, p, func(current Epoch) (Epoch, bool) { return current, false })
		return err
	})
	if err != nil {
		e.logger.Warn("the bucket has an older epoch than this node and cannot be mended yet", "partition", p, "error", err)
	}
}
