package eventlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// The epoch of each partition stands in the cluster bucket, and each node holds
// a copy. Whoever finds that a stream was created anew or rolled back writes the
// next one, by compare-and-set, so that all who find out write one; everybody
// else learns of it from the bucket.
//
// The counter alone tells which of two epochs is newer, for a restored stream
// has an older creation time. It rises by one at each change. The first counter
// is the time in seconds, so that it rises also when the bucket itself is lost.

const (
	epochKeyPrefix = "epoch."
	epochAttempts  = 10
	epochRetry     = 50 * time.Millisecond
)

func epochKey(p event.Partition) string { return epochKeyPrefix + strconv.Itoa(int(p)) }

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

// epochs holds what is known of each partition's epoch.
type epochs struct {
	changed chan struct{} // holds a value while known and told may differ

	mu       sync.Mutex
	known    []Epoch
	told     []Epoch // what the listeners were told last
	listener []func(event.Partition, Epoch)
}

func newEpochs(partitions int) *epochs {
	return &epochs{
		changed: make(chan struct{}, 1),
		known:   make([]Epoch, partitions),
		told:    make([]Epoch, partitions),
	}
}

func (e *epochs) get(p event.Partition) Epoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known[p]
}

// learn takes over an epoch if it is newer than the known one, and returns the
// newer of both. The first one of a partition is not news to the listeners.
func (e *epochs) learn(p event.Partition, epoch Epoch) (newest Epoch, changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if epoch.counter() <= e.known[p].counter() {
		return e.known[p], false
	}
	if e.known[p] == "" {
		e.known[p], e.told[p] = epoch, epoch
		return epoch, false
	}
	e.known[p] = epoch
	select {
	case e.changed <- struct{}{}:
	default:
	}
	return epoch, true
}

// tell calls the listeners for each partition whose epoch they do not know. It
// is called by one goroutine only.
func (e *epochs) tell() {
	for p := range event.Partition(len(e.known)) {
		e.mu.Lock()
		epoch, news := e.known[p], e.known[p] != e.told[p]
		e.told[p] = epoch
		e.mu.Unlock()
		if !news {
			continue
		}
		for _, f := range e.listener {
			f(p, epoch)
		}
	}
}

// Epoch returns the last known epoch of a partition, without asking.
func (l *Log) Epoch(p event.Partition) Epoch { return l.epochs.get(p) }

// OnEpoch registers a function that is called when the epoch of a partition has
// changed, from Run's goroutine. To be called before Run.
func (l *Log) OnEpoch(f func(p event.Partition, epoch Epoch)) {
	l.epochs.listener = append(l.epochs.listener, f)
}

func (l *Log) learnEpoch(p event.Partition, epoch Epoch) Epoch {
	newest, changed := l.epochs.learn(p, epoch)
	if changed {
		l.metrics.epochs.Inc()
		l.logger.Warn("epoch of a partition has changed: its stream was created anew, restored or rolled back",
			"partition", p, "epoch", string(newest))
	}
	return newest
}

// State is what the leader of a partition's stream says of it.
type State struct {
	Epoch Epoch
	// First and Last are the oldest and the newest sequence. First is Last+1 in
	// an empty stream.
	First, Last uint64
	// Bytes is what the stream holds, Limit what it may hold before it refuses
	// publishes.
	Bytes, Limit uint64
}

// Refresh asks the leader for the state of a partition's stream. It notices a
// stream that was created anew, and creates one that has been missing for some
// seconds, until when it returns ErrUnavailable; that the stream was rolled back
// is for Compare to find, and for the caller to say with RaiseEpoch.
func (l *Log) Refresh(ctx context.Context, p event.Partition) (State, error) {
	start := time.Now()
	var (
		info  *jetstream.StreamInfo
		epoch Epoch
	)
	err := l.request(ctx, func(ctx context.Context) (err error) {
		info, err = l.ensureStream(ctx, l.cfg.partitionStream(p), l.find)
		if err == nil && !l.Epoch(p).belongsTo(info.Created) {
			err = l.ensureRest(ctx, p)
		}
		if err != nil {
			return err
		}
		epoch, err = l.reconcileEpoch(ctx, p, info.Created)
		return err
	})
	l.metrics.observe(opInfo, start, err)
	if err != nil {
		return State{}, fmt.Errorf("state of partition %d: %w", p, err)
	}
	return State{
		Epoch: epoch, First: info.State.FirstSeq, Last: info.State.LastSeq,
		Bytes: info.State.Bytes, Limit: uint64(max(0, info.Config.MaxBytes)),
	}, nil
}

// RaiseEpoch begins a new epoch of the partition if it is still in the seen
// one, and returns the one that it is in now. To be called by whoever finds a
// position of the seen epoch beyond the stream's last sequence.
func (l *Log) RaiseEpoch(ctx context.Context, p event.Partition, seen Epoch) (Epoch, error) {
	created, _, _ := strings.Cut(string(seen), ".")
	nanos, err := strconv.ParseInt(created, 16, 64)
	if err != nil {
		return "", fmt.Errorf("raise epoch %q of partition %d: not an epoch", seen, p)
	}
	var epoch Epoch
	err = l.request(ctx, func(ctx context.Context) (err error) {
		epoch, err = l.advance(ctx, p, func(current Epoch) (Epoch, bool) {
			return NewEpoch(time.Unix(0, nanos), seen.counter()+1), current == seen
		})
		return err
	})
	return epoch, wrap(fmt.Sprintf("raise the epoch of partition %d", p), err)
}

// reconcileEpoch returns the epoch of a stream that was created at that time.
func (l *Log) reconcileEpoch(ctx context.Context, p event.Partition, created time.Time) (Epoch, error) {
	if known := l.Epoch(p); known.belongsTo(created) {
		return known, nil
	}
	epoch, err := l.advance(ctx, p, func(current Epoch) (Epoch, bool) {
		return NewEpoch(created, current.counter()+1), !current.belongsTo(created)
	})
	return epoch, wrap(fmt.Sprintf("epoch of partition %d", p), err)
}

// advance writes the epoch that next returns for the current one, if it is to
// be written, and returns the one that holds afterwards. The bucket is read from
// any replica, so what was read counts only once it is not older than what is
// known here, and is written only if the leader agrees that it is current. A
// bucket that was rolled back itself is current and older: it is brought up to
// what is known, or the same epoch would begin a second time.
func (l *Log) advance(ctx context.Context, p event.Partition, next func(current Epoch) (Epoch, bool)) (Epoch, error) {
	for range epochAttempts {
		epoch, err := l.advanceOnce(ctx, p, next)
		if err == nil {
			return l.learnEpoch(p, epoch), nil
		}
		if !errors.Is(err, errEpochRaced) {
			return "", err
		}
		select {
		case <-time.After(epochRetry):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return "", fmt.Errorf("%w: %w", ErrUnavailable, errEpochRaced)
}

var errEpochRaced = errors.New("the epoch was changed by another node or read from a replica that lags")

func (l *Log) advanceOnce(ctx context.Context, p event.Partition, next func(current Epoch) (Epoch, bool)) (Epoch, error) {
	known := l.Epoch(p)
	entry, err := l.entry(ctx, epochKey(p))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		first, write := next(cmp.Or(known, Epoch("."+strconv.FormatInt(time.Now().Unix(), 16))))
		if !write {
			first = known
		}
		_, err = l.cluster.Create(ctx, epochKey(p), []byte(first))
		return first, raced(err)
	}
	if err != nil {
		return "", err
	}
	current := Epoch(entry.Value())
	older := current.counter() < known.counter()
	if older {
		current = known
	}
	epoch, write := next(current)
	if !write {
		epoch = current
	}
	if !write && !older {
		return current, nil
	}
	_, err = l.cluster.Update(ctx, epochKey(p), []byte(epoch), entry.Revision())
	return epoch, raced(err)
}

func raced(err error) error {
	var api *jetstream.APIError
	if errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return errEpochRaced
	}
	return err
}
