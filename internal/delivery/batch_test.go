package delivery_test

import (
	"encoding/hex"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func sample() delivery.Batch {
	message := eventlog.Message{Token: "clx1", Sequence: 900, Stored: time.Unix(1732291200, 5).UTC(), Body: []byte(`{"id":"e"}`)}
	return delivery.Batch{
		Partition: 7,
		Epoch:     eventlog.NewEpoch(time.Unix(1, 0), 3),
		Events:    []delivery.Forwarded{{Message: message, After: 12}},
		Hints:     []delivery.Hint{{Token: "a=2Eb", Sequence: 1 << 40}},
	}
}

func TestBatchComesBackAsItWasEncoded(t *testing.T) {
	t.Parallel()
	got, err := delivery.Decode(sample().Encode(nil))
	require.NoError(t, err)
	require.Equal(t, sample(), got)
}

func TestEveryTruncationOfABatchIsRefusedOrAWholeItemShorter(t *testing.T) {
	t.Parallel()
	whole := sample().Encode(nil)
	for n := range whole {
		got, err := delivery.Decode(whole[:n])
		if err != nil {
			require.ErrorIs(t, err, delivery.ErrMalformed)
			continue
		}
		require.Less(t, len(got.Events)+len(got.Hints), 2, "truncated at %d", n)
	}
}

func TestForeignVersionIsRefused(t *testing.T) {
	t.Parallel()
	data := sample().Encode(nil)
	data[0] = 99
	_, err := delivery.Decode(data)
	require.ErrorContains(t, err, "version 99")
}

// Who has sent a batch is said once for all its events, and only where it is traced.
func TestABatchSaysWhoHasSentIt(t *testing.T) {
	t.Parallel()
	b := sample()
	b.Router, b.Sent = "router-1", time.Unix(1732291201, 7).UTC()
	text := b.Encode(nil)
	got, err := delivery.Decode(text)
	require.NoError(t, err)
	require.Equal(t, b, got)
	require.Equal(t, 1+1+9+len(b.Router), len(text)-len(sample().Encode(nil)))
}

// Where an event stands in its trace goes with it, and what a later version may say
// instead is passed over.
func TestABatchSaysWhereItsEventsStandInTheirTraces(t *testing.T) {
	t.Parallel()
	b := sample()
	second, third := b.Events[0], b.Events[0]
	second.Sequence, third.Sequence = 901, 902
	c, ok := tracing.Parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")
	require.True(t, ok)
	second.Trace = &c
	b.Events = append(b.Events, second, third)
	got, err := delivery.Decode(b.Encode(nil))
	require.NoError(t, err)
	require.Equal(t, b, got)

	for _, odd := range [][]byte{{4, 0}, {4, 3, 'x', 'y', 'z'}} {
		got, err = delivery.Decode(append(sample().Encode(nil), odd...))
		require.NoError(t, err)
		require.Equal(t, sample(), got, "after a hint, it is of no event")
		got, err = delivery.Decode(append(delivery.Batch{Events: sample().Events}.Encode(nil), odd...))
		require.NoError(t, err)
		require.Equal(t, sample().Events, got.Events)
	}
}

// In a rolling upgrade the newer node may say what the older one does not know;
// the rest must not wait for the net.
func TestItemsOfAnUnknownKindAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	data := append(sample().Encode(nil), 77, 3, 'n', 'e', 'w')
	data = append(data, delivery.Batch{Hints: sample().Hints}.Encode(nil)[3:]...)
	got, err := delivery.Decode(data)
	require.NoError(t, err)
	want := sample()
	want.Hints = append(want.Hints, want.Hints...)
	want.Unknown = 1
	require.Equal(t, want, got)
	_, err = delivery.Decode(append(sample().Encode(nil), 77, 3, 'n'))
	require.ErrorIs(t, err, delivery.ErrMalformed)
}

// What nodes of other versions write and read.
func TestTheFormatOfBatchesStays(t *testing.T) {
	t.Parallel()
	const written = "010719303030303030303033623961636130302e30303030303030330104636c783184070c8580a4bcb1b59585180a7b226964223a2265227d" +
		"0205613d324562808080808020"
	require.Equal(t, written, hex.EncodeToString(sample().Encode(nil)))
}

func TestPartitionThatNoLogHasIsRefused(t *testing.T) {
	t.Parallel()
	for _, p := range []event.Partition{-1, math.MinInt, math.MaxInt} {
		_, err := delivery.Decode(delivery.Batch{Partition: p}.Encode(nil))
		require.ErrorIs(t, err, delivery.ErrMalformed, "partition %d, by which edges queue a batch", p)
	}
}

// A batch is encoded for each edge, and decoded there: what that allocates must
// not grow with its events.
func TestABatchOfManyEventsAllocatesLittle(t *testing.T) {
	const size = 64
	b := sample()
	for len(b.Events) < size {
		b.Events = append(b.Events, b.Events[0])
	}
	text := b.Encode(nil)
	require.Zero(t, testing.AllocsPerRun(100, func() { text = b.Encode(text[:0]) }))
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = delivery.Decode(text) })/size, 1.5, "allocations for each event")
}

// What an edge is sent is bounded by its length, and sent again it is read as the
// same.
func FuzzBatches(f *testing.F) {
	f.Add(sample().Encode(nil))
	f.Add(append(sample().Encode(nil), 77, 3, 'n', 'e', 'w'))
	f.Add(delivery.Batch{Hints: sample().Hints}.Encode(nil))
	f.Add(delivery.Batch{Router: "router-1", Sent: time.Unix(1, 0)}.Encode(nil))
	traced := sample()
	traced.Events[0].Trace = &tracing.Context{TraceID: tracing.TraceID{1}, Parent: tracing.SpanID{2}, State: "a=b", Sampled: true}
	f.Add(traced.Encode(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := delivery.Decode(data)
		if err != nil {
			require.ErrorIs(t, err, delivery.ErrMalformed)
			require.Zero(t, b)
			quotetest.RequireLittle(t, data, err)
			return
		}
		require.LessOrEqual(t, 2*(len(b.Events)+len(b.Hints)+b.Unknown), len(data))
		require.Less(t, len(b.Router), len(data))
		require.LessOrEqual(t, int(b.Partition), math.MaxUint16)
		total := 0
		for _, e := range b.Events {
			total += len(e.Body)
			require.Equal(t, len(e.Body), cap(e.Body), "whoever appends to a body does not write into the next item")
		}
		require.LessOrEqual(t, total, len(data))
		b.Unknown = 0 // what is not known cannot be said again
		again, err := delivery.Decode(b.Encode(nil))
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}
