package revocation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const eve Key = "orchestrator.eve"

// follower is a list that runs.
type follower struct {
	*testing.T
	*List
	changes atomic.Int64
}

func follow(t *testing.T, js jetstream.JetStream, change ...func(*List)) *follower {
	t.Helper()
	f := &follower{T: t}
	f.List = NewList(js, func() { f.changes.Add(1) }, nil, slog.New(slog.DiscardHandler))
	f.Observe(prometheus.NewPedanticRegistry())
	f.pollInterval = 20 * time.Millisecond
	for _, set := range change {
		set(f.List)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.List.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return f
}

func (f *follower) eventually(condition func() bool) {
	f.Helper()
	require.Eventually(f, condition, testserver.Patience, 5*time.Millisecond)
}

func (f *follower) revokes(keys ...Key) bool {
	_, _, found := f.Revokes(time.Now(), keys...)
	return found
}

func (f *follower) says(ok bool, detail string) func() bool {
	return func() bool {
		got, text := f.Check()
		return got == ok && strings.Contains(text, detail)
	}
}

func newBucket(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: Bucket, TTL: Lifetime})
	require.NoError(t, err)
	return bucket
}

func put(t *testing.T, bucket jetstream.KeyValue, key Key, life time.Duration) {
	t.Helper()
	_, err := bucket.Put(t.Context(), string(key), Entry{Until: time.Now().Add(life)}.Encode())
	require.NoError(t, err)
}

func TestAListFollowsTheBucket(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	bucket := newBucket(t, js)
	put(t, bucket, eve, time.Hour)
	put(t, bucket, "token.over", -time.Second)
	put(t, bucket, "token.taken-back", time.Hour)
	require.NoError(t, bucket.Delete(t.Context(), "token.taken-back"))
	put(t, bucket, "somebody.else", time.Hour)
	f := follow(t, js)
	<-f.Loaded()
	require.True(t, f.revokes("token.other", eve), "any of the keys will do")
	require.False(t, f.revokes("token.over", "token.taken-back", "somebody.else"))
	require.True(t, f.says(true, "1 revoked")())

	put(t, bucket, "token.new", time.Hour)
	f.eventually(func() bool { return f.revokes("token.new") })
	require.NoError(t, bucket.Delete(t.Context(), string(eve)))
	f.eventually(func() bool { return !f.revokes(eve) })
	require.Positive(t, f.changes.Load())
}

func TestAnEntryEndsByItself(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	put(t, newBucket(t, js), eve, time.Hour)
	f := follow(t, js)
	<-f.Loaded()
	now := time.Now()
	_, _, found := f.Revokes(now.Add(time.Hour+time.Second), eve)
	require.False(t, found)
	f.sweep(now)
	require.False(t, f.Empty())
	f.sweep(now.Add(time.Hour + time.Second))
	require.True(t, f.Empty(), "and takes no memory then")
}

// A list that cannot be read, or has stood still without a word, keeps what it
// knows and says so.
func TestWhatIsKnownStaysRevokedWhileTheBucketIsAway(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	js := server.JetStream()
	bucket := newBucket(t, js)
	put(t, bucket, eve, time.Hour)
	f := follow(t, js)
	<-f.Loaded()
	server.Shutdown()
	f.eventually(f.says(false, "1 known stay revoked"))
	require.True(t, f.revokes(eve))
	server.Start()
	f.eventually(f.says(true, "1 revoked"))

	require.NoError(t, js.DeleteKeyValue(t.Context(), Bucket))
	f.eventually(f.says(false, "bucket"))
	require.True(t, f.revokes(eve), "whoever deletes the bucket lets nobody in")
	bucket = newBucket(t, js)
	put(t, bucket, "token.new", time.Hour)
	f.eventually(func() bool { return f.revokes("token.new") })
	require.False(t, f.revokes(eve), "the bucket says what is revoked as soon as it can be read")
}

func TestABucketThatWasRolledBackIsReadAnew(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	bucket := newBucket(t, js)
	f := follow(t, js)
	<-f.Loaded()
	f.mu.Lock()
	f.revision = 1 << 40 // as though the bucket had been rolled back
	f.mu.Unlock()
	put(t, bucket, eve, time.Hour)
	f.eventually(func() bool { return f.revokes(eve) && f.seen() == 1 })
	f.eventually(f.says(true, ""))
}

// A replica that lags has not heard of all that is revoked, and nothing ends for it.
// What was read of the bucket as it stands does end what is not in it.
func TestAReplicaThatLagsLetsNobodyIn(t *testing.T) {
	t.Parallel()
	l := NewList(testserver.NATS(t).JetStream(), func() {}, nil, slog.New(slog.DiscardHandler))
	bucket := standing{created: time.Now(), last: 5}
	whole, lagging := entryOf(string(eve)), entryOf("token.old")
	whole.written, lagging.written, whole.revision = time.Now(), time.Now(), 5
	complete := func(bucket standing, changes ...change) {
		r := &reading{entries: map[Key]Entry{}}
		for _, c := range changes {
			r.take(c)
		}
		l.complete(r, bucket)
	}
	complete(bucket, lagging, whole)
	complete(bucket, lagging)
	_, _, revoked := l.Revokes(time.Now(), eve)
	require.True(t, revoked)
	require.EqualValues(t, 1, l.seen(), "what it lacks is asked for again")

	bucket.last = 1
	complete(bucket, lagging)
	_, _, revoked = l.Revokes(time.Now(), eve)
	require.False(t, revoked, "the bucket was rolled back")
}

func TestAListIsBounded(t *testing.T) {
	t.Parallel()
	r := reading{entries: map[Key]Entry{}}
	for n := range MaxEntries + 2 {
		r.take(entryOf(fmt.Sprintf("token.%d", n)))
	}
	require.Len(t, r.entries, MaxEntries)
	require.Equal(t, 2, r.left)
	r.take(entryOf("token.7"))
	require.Equal(t, 2, r.left, "one that is known can be renewed")
}

// Regression: the bucket keeps for weeks what has ended, and an edge that started
// had no room for what was revoked since.
func TestWhatHasEndedKeepsNothingOut(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := reading{entries: map[Key]Entry{}, now: now}
	over := Entry{Until: now.Add(-time.Minute)}.Encode()
	for n := range MaxEntries + 1 {
		r.take(change{key: Key(fmt.Sprintf("token.%d", n)), written: now.Add(-time.Hour), value: over})
	}
	r.take(change{key: eve, written: now, value: Entry{Until: now.Add(time.Hour)}.Encode()})
	_, found := r.entries[eve] // a failure that showed all of them would take minutes
	require.True(t, found)
	require.Zero(t, r.left)
}

// Regression: what had ended by a clock that was wrong stayed forgotten when the
// clock was right again.
func TestAClockThatIsSetForwardAndBackLetsNobodyIn(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	put(t, newBucket(t, js), eve, time.Hour)
	var ahead atomic.Int64
	f := follow(t, js, func(l *List) {
		l.sweepInterval = 10 * time.Millisecond
		l.clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	<-f.Loaded()
	require.True(t, f.revokes(eve))
	ahead.Store(int64(2 * time.Hour))
	f.eventually(f.Empty)
	ahead.Store(0)
	f.eventually(func() bool { return f.revokes(eve) })
}

func entryOf(key string) change { return change{key: Key(key), revision: 1, written: written} }
