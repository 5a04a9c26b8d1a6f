package eventlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// The epoch of each partition stands in the cluster bucket, and each node holds
// a copy. Whoever finds that a stream was created again or rolled back writes
// the next one, by compare-and-set, so that all who find out write one;
// everybody else learns of it from the bucket.
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

// epochs holds what is known of each partition's epoch, and keeps it and the
// cluster bucket up to date.
type epochs struct {
	// Set once; the bucket when the log is opened.
	jet    *jet.Client
	bucket jetstream.KeyValue
	stored func(ctx context.Context, stream string, subjects []string) (map[string]Stored, error)
	risen  prometheus.Counter
	logger *slog.Logger

	changed chan struct{} // holds a value while known and told may differ

	mu       sync.Mutex
	known    []Epoch
	told     []Epoch // what the listeners were told last
	listener []func(event.Partition, Epoch)
}

func newEpochs(l *Log) *epochs {
	partitions := l.cfg.Partitions
	return &epochs{
		jet:     l.jet,
		stored:  l.LastMessages,
		risen:   l.metrics.epochs,
		logger:  l.logger,
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
// newer of both.
func (e *epochs) learn(p event.Partition, epoch Epoch) Epoch {
	newest, changed := e.replace(p, epoch)
	if changed {
		e.risen.Inc()
		e.logger.Warn("epoch of a partition has changed: its stream was created anew, restored or rolled back",
			"partition", p, "epoch", string(newest))
	}
	return newest
}

// replace is learn, but it tells nobody except the listeners. To these the
// first epoch of a partition is no news.
func (e *epochs) replace(p event.Partition, epoch Epoch) (newest Epoch, changed bool) {
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

// raise begins a new epoch of the partition if it is still in the seen one, and
// returns the one that it is in now.
func (e *epochs) raise(ctx context.Context, p event.Partition, seen Epoch) (epoch Epoch, err error) {
	created, _, _ := strings.Cut(string(seen), ".")
	nanos, err := strconv.ParseInt(created, 16, 64)
	if err != nil {
		return "", fmt.Errorf("raise epoch %q of partition %d: not an epoch", seen, p)
	}
	err = e.jet.Request(ctx, func(ctx context.Context) (err error) {
		epoch, err = e.advance(ctx, p, func(current Epoch) (Epoch, bool) {
			return NewEpoch(time.Unix(0, nanos), seen.counter()+1), current == seen
		})
		return err
	})
	return epoch, wrap(fmt.Sprintf("raise the epoch of partition %d", p), err)
}

// reconcile returns the epoch of a stream that was created at that time.
func (e *epochs) reconcile(ctx context.Context, p event.Partition, created time.Time) (Epoch, error) {
	if known := e.get(p); known.belongsTo(created) {
		return known, nil
	}
	epoch, err := e.advance(ctx, p, func(current Epoch) (Epoch, bool) {
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
func (e *epochs) advance(ctx context.Context, p event.Partition, next func(current Epoch) (Epoch, bool)) (Epoch, error) {
	for range epochAttempts {
		epoch, err := e.advanceOnce(ctx, p, next)
		if err == nil {
			return e.learn(p, epoch), nil
		}
		if !errors.Is(err, errRaced) {
			return "", err
		}
		if !lifecycle.Sleep(ctx, epochRetry) {
			return "", ctx.Err()
		}
	}
	return "", fmt.Errorf("%w: %w", ErrUnavailable, errRaced)
}

var errRaced = errors.New("the epoch was changed by another node or read from a replica that lags")

func (e *epochs) advanceOnce(ctx context.Context, p event.Partition, next func(current Epoch) (Epoch, bool)) (Epoch, error) {
	known := e.get(p)
	entry, err := jet.Entry(ctx, e.bucket, epochKey(p))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		first, write := next(cmp.Or(known, Epoch("."+strconv.FormatInt(time.Now().Unix(), 16))))
		if !write {
			first = known
		}
		_, err = e.bucket.Create(ctx, epochKey(p), []byte(first))
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
	_, err = e.bucket.Update(ctx, epochKey(p), []byte(epoch), entry.Revision())
	return epoch, raced(err)
}

func raced(err error) error {
	var api *jetstream.APIError
	if errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return errRaced
	}
	return err
}
