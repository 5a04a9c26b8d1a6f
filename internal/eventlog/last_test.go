package eventlog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// publishEach publishes one event to each of the orchestrators.
func publishEach(t *testing.T, l *eventlog.Log, tokens []event.Token, id, body string) map[event.Token]uint64 {
	t.Helper()
	acks := make([]eventlog.Ack, len(tokens))
	var group errgroup.Group
	group.SetLimit(64)
	for i, token := range tokens {
		group.Go(func() (err error) {
			acks[i], err = stored(t, l, token, id, []byte(body))
			return err
		})
	}
	require.NoError(t, group.Wait())
	last := make(map[event.Token]uint64, len(tokens))
	for i, token := range tokens {
		last[token] = acks[i].Sequence
	}
	return last
}

// TestLastSequencesOfMany asks for 3,000 orchestrators of which a third has
// nothing, with bodies so big that each request takes many answers.
func TestLastSequencesOfMany(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	tokens := tokensOf(l, 1, 3000)
	rand.Shuffle(len(tokens), func(i, j int) { tokens[i], tokens[j] = tokens[j], tokens[i] })
	publishEach(t, l, tokens[:1000], "old", "x")
	want := publishEach(t, l, tokens[:1800], "new", strings.Repeat("x", 20<<10))
	for token, sequence := range publishEach(t, l, tokens[1800:2000], "new", "x") {
		want[token] = sequence
	}
	rand.Shuffle(len(tokens), func(i, j int) { tokens[i], tokens[j] = tokens[j], tokens[i] })
	state, err := insist(func() (eventlog.State, error) { return l.Refresh(t.Context(), 1) })
	require.NoError(t, err)

	got := lastSequences(t, l, 1, tokens...)
	require.Len(t, got, len(tokens))
	for i, token := range tokens {
		require.Equal(t, eventlog.Last{Sequence: want[token], UpTo: state.Last}, got[i], "orchestrator %s", token)
	}
}

// TestUpToHoldsWhilePublishing: invariant 3 rests on this. Whatever is published
// meanwhile, no event that the log had acknowledged before the question may lie
// between the sequence and UpTo of an answer, nor any event at all that the next
// read finds there.
// Reports: nats-io/nats-server#4710, #4162.
func TestUpToHoldsWhilePublishing(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	tokens := tokensOf(l, 0, 300)
	ctx, stop := context.WithCancel(t.Context())
	var group errgroup.Group
	for w := range 4 {
		group.Go(func() error {
			for i := 0; ctx.Err() == nil; i++ {
				token := tokens[rand.IntN(len(tokens))]
				body := []byte(strings.Repeat("x", 1+rand.IntN(30<<10)))
				if _, err := stored(t, l, token, fmt.Sprintf("%d-%d", w, i), body); err != nil {
					return err
				}
			}
			return nil
		})
	}
	answers := make([][]eventlog.Last, 15)
	for i := range answers {
		answers[i] = lastSequences(t, l, 0, tokens...)
	}
	stop()
	require.NoError(t, group.Wait())
	for i, token := range tokens {
		page := read(t, l, token, 1, 1000, 1<<20)
		for page.Remaining > 0 {
			more := read(t, l, token, page.Messages[len(page.Messages)-1].Sequence+1, 1000, 1<<20)
			page.Messages, page.Remaining = append(page.Messages, more.Messages...), more.Remaining
		}
		kept := sequences(page)
		for _, answer := range answers {
			lies := func(s uint64) bool { return s > answer[i].Sequence && s <= answer[i].UpTo }
			require.False(t, slices.ContainsFunc(kept, lies), "an event of %s lies between %+v", token, answer[i])
		}
	}
}

func TestLastSequencesWithoutAnyEvent(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	got := lastSequences(t, l, 0, tokensOf(l, 0, 3)...)
	require.Equal(t, []eventlog.Last{{UpTo: 1}, {UpTo: 1}, {UpTo: 1}}, got, "only the sentinel is there")
	require.Empty(t, lastSequences(t, l, 0))
}

func TestMissingSentinelIsPublished(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	stream, err := s.JetStream().Stream(t.Context(), event.StreamName(0))
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	require.Equal(t, []eventlog.Last{{UpTo: 2}, {UpTo: 2}}, lastSequences(t, l, 0, tokensOf(l, 0, 2)...))
}

// TestForgedHeaders: what a backend puts into its message must not be taken for
// the server's word about the message.
func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	token := tokensOf(l, 0, 1)[0]
	subject := event.Subject(0, token)
	js := s.JetStream()
	var want []uint64
	for _, header := range []nats.Header{
		{"Nats-Sequence": {"4000"}, "Nats-Subject": {"daemon.events.0.other"}, "Nats-Last-Sequence": {"77"}},
		{"Status": {"204"}, "Description": {"EOB"}, "Nats-Num-Pending": {"0"}, "Nats-UpTo-Sequence": {"9999"}},
		{"Status": {"503"}},
		{"Status": {"404"}, "Description": {"No Results"}},
	} {
		ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: header})
		require.NoError(t, err)
		want = append(want, ack.Sequence)
		require.Equal(t, []eventlog.Last{{Sequence: ack.Sequence, UpTo: ack.Sequence}}, lastSequences(t, l, 0, token))
	}
	require.Equal(t, want, sequences(read(t, l, token, 1, 100, 1<<20)))
	require.Equal(t, want, sequences(read(t, l, token, 1, 100, 1<<20)))
}

func TestLastMessages(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	js := s.JetStream()
	bucket := eventlog.CursorBucket(1)
	kv, err := js.KeyValue(t.Context(), bucket)
	require.NoError(t, err)
	const keys = 1500
	subjects := []string{eventlog.BucketSubject(bucket, "deleted"), eventlog.BucketSubject(bucket, "absent")}
	want := map[string]eventlog.Stored{}
	for i := range keys {
		key := "key-" + strconv.Itoa(i)
		revision, err := kv.Put(t.Context(), key, []byte(key))
		require.NoError(t, err)
		subject := eventlog.BucketSubject(bucket, key)
		subjects = append(subjects, subject)
		want[subject] = eventlog.Stored{Sequence: revision, Data: []byte(key)}
	}
	_, err = kv.Put(t.Context(), "deleted", []byte("x"))
	require.NoError(t, err)
	require.NoError(t, kv.Delete(t.Context(), "deleted"))
	want[subjects[0]] = eventlog.Stored{Sequence: keys + 2}

	got, err := insist(func() (map[string]eventlog.Stored, error) {
		return l.LastMessages(t.Context(), eventlog.BucketStream(bucket), subjects)
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
	none, err := insist(func() (map[string]eventlog.Stored, error) {
		return l.LastMessages(t.Context(), eventlog.BucketStream(bucket), subjects[1:2])
	})
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = l.LastMessages(t.Context(), "NO_SUCH_STREAM", subjects[:1])
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
}

func TestReadPages(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	tokens := tokensOf(l, 0, 2)
	var want []uint64
	for i := range 25 {
		want = append(want, publish(t, l, tokens[0], strconv.Itoa(i), strings.Repeat("x", 1000)))
		publish(t, l, tokens[1], strconv.Itoa(i), "other")
	}
	page := read(t, l, tokens[0], 0, 10, 1<<20)
	require.Equal(t, want[:10], sequences(page))
	require.EqualValues(t, 15, page.Remaining)
	require.Equal(t, tokens[0], page.Messages[0].Token)
	require.Equal(t, strings.Repeat("x", 1000), string(page.Messages[0].Body))
	require.WithinDuration(t, time.Now(), page.Messages[0].Stored, time.Minute)

	page = read(t, l, tokens[0], want[9]+1, 100, 1<<20)
	require.Equal(t, want[10:], sequences(page))
	require.Zero(t, page.Remaining)

	page = read(t, l, tokens[0], want[5], 100, 2500)
	require.Equal(t, want[5:8], sequences(page), "the message that reaches the limit is the last")
	require.EqualValues(t, 17, page.Remaining)

	page = read(t, l, tokens[0], want[24]+1, 100, 1<<20)
	require.Empty(t, page.Messages)
	require.Zero(t, page.Remaining)
}

// TestDomain: every request of our own has to start with the prefix that the
// JetStream context was made with.
func TestDomain(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	js, err := jetstream.NewWithDomain(s.JetStream().Conn(), "hub")
	require.NoError(t, err)
	l := open(t, js, config())
	token := tokensOf(l, 0, 1)[0]
	want := publish(t, l, token, "e", "x")
	require.Equal(t, []eventlog.Last{{Sequence: want, UpTo: want}}, lastSequences(t, l, 0, token))
	require.Equal(t, []uint64{want}, sequences(read(t, l, token, 1, 10, 1<<20)))
	f := follow(t, l, 0, 1)
	f.until(t, want)
	require.NoError(t, f.stop())
}

// The heads are the same, whichever way they are read.

func TestHeadsAreReadWithAndWithoutAConsumer(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	token := tokensOf(l, 0, 1)[0]
	want := map[uint64]string{}
	for i := range 30 {
		id := strconv.Itoa(i)
		want[publish(t, l, token, id, strings.Repeat("x", 100<<10))] = event.MessageID(token, id)
	}
	for name, reader := range map[string]*eventlog.Log{"with": l, "without": open(t, s.JetStream(), config(), eventlog.Unmanaged())} {
		got, err := insist(func() (map[uint64]string, error) {
			got := map[uint64]string{}
			more, err := reader.EachHead(t.Context(), 0, token, 1, 100<<20, func(h eventlog.Head) { got[h.Sequence] = h.MessageID })
			require.False(t, more)
			return got, err
		})
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
}

// Who moves events to their own partition waits while that is away, and gives up events
// for other errors; and it must hear of it.
func TestHeadsOfWhatIsAwayAreUnavailable(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	token := tokensOf(l, 0, 1)[0]
	way := testserver.NATSProxy(t, s)
	far := open(t, testserver.JetStream(t, way.URL()), config())
	way.HoldAnswers()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	_, err := far.EachHead(ctx, 0, token, 1, 1<<20, func(eventlog.Head) {})
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	require.NoError(t, ctx.Err(), "it has a bound of its own")

	require.NoError(t, s.JetStream().DeleteStream(t.Context(), event.StreamName(0)))
	_, err = l.EachHead(t.Context(), 0, token, 1, 1<<20, func(eventlog.Head) {})
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
}

func TestHeadsWithoutAConsumerAreReadAsFarAsIsAllowed(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	token := tokensOf(l, 0, 1)[0]
	const size, events = 100 << 10, 30
	for i := range events {
		publish(t, l, token, strconv.Itoa(i), strings.Repeat("x", size))
	}
	reader := open(t, s.JetStream(), config(), eventlog.Unmanaged())
	from, found := uint64(1), 0
	for more, rounds := true, 0; more; rounds++ {
		bytes := 0
		var err error
		more, err = reader.EachHead(t.Context(), 0, token, from, 3*size, func(h eventlog.Head) {
			from, found, bytes = h.Sequence+1, found+1, bytes+h.Bytes
		})
		if eventlog.Retryable(err) {
			more = true
			continue
		}
		require.NoError(t, err)
		require.LessOrEqual(t, bytes, 4*size, "the answer ends with the event that reaches it")
		require.Less(t, rounds, 100)
	}
	require.Equal(t, events, found)
}
