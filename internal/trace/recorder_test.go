package trace_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func recorder(sample int) (*trace.Recorder, *prometheus.Registry) {
	reg := prometheus.NewPedanticRegistry()
	return trace.New(trace.Config{TraceSample: sample}, "edge", "edge-1", slog.New(slog.DiscardHandler), reg), reg
}

// count returns a counter by the values of its labels.
func count(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetCounter().GetValue() > 0 {
				counts[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return counts
}

// kept is a store that remembers, or fails.
type kept struct {
	mu      sync.Mutex
	records []trace.Record
	fails   error
	hangs   bool
}

func (k *kept) KeepTrace(_ context.Context, _ event.Token, _ string, text []byte, done func(error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var record trace.Record
	if err := json.Unmarshal(text, &record); err != nil {
		panic(err)
	}
	k.records = append(k.records, record)
	if fails := k.fails; !k.hangs {
		go done(fails)
	}
}

func (k *kept) all() []trace.Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]trace.Record(nil), k.records...)
}

// runs runs a recorder until the test ends.
func runs(t *testing.T, r *trace.Recorder, store trace.Store) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, store) }()
	return sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

func about(id string, cause trace.Cause) trace.Record {
	return trace.Record{
		Cause: cause, Orchestrator: "o", Event: id, Partition: 3, Epoch: "1.1", Sequence: 7,
		Hops: []trace.Hop{{At: time.Unix(1, 0).UTC(), Step: trace.Written, Daemon: "d"}},
	}
}

func TestAllNodesChooseTheSameOneOfSoMany(t *testing.T) {
	t.Parallel()
	one, _ := recorder(1000)
	other, _ := recorder(1000)
	chosen := 0
	const partitions, events = 16, 50_000
	for p := range event.Partition(partitions) {
		for sequence := range uint64(events) {
			cause := one.Choose("o", p, sequence, nil)
			require.Equal(t, cause, other.Choose("somebody else's", p, sequence, nil))
			if cause == trace.Sampled {
				chosen++
			}
		}
	}
	require.InEpsilon(t, partitions*events/1000, chosen, 0.1)
	all, _ := recorder(1)
	require.Equal(t, trace.Sampled, all.Choose("o", 3, 7, nil))
}

func TestNothingIsTracedWhereThatIsOff(t *testing.T) {
	t.Parallel()
	off, _ := recorder(0)
	for _, r := range []*trace.Recorder{nil, off} {
		require.False(t, r.On())
		require.Equal(t, trace.None, r.Choose("o", 3, 7, nil))
		require.Equal(t, trace.None, r.Because("o", trace.Failed))
		r.Say("o", trace.Hop{})
		require.True(t, r.Add(about("e", trace.None)))
	}
}

func TestWhatIsSaidOfAnEventIsStoredWithWhoHasSaidIt(t *testing.T) {
	t.Parallel()
	r, reg := recorder(1000)
	store := &kept{}
	end := runs(t, r, store)
	record := about("e", trace.Failed)
	record.Hops = append([]trace.Hop{{Step: trace.Stored, Tier: trace.TierLog}}, record.Hops...)
	record.Hops[1].Detail = strings.Repeat("ü", 1000)
	require.True(t, r.Add(record))
	r.Add(about(strings.Repeat("x", 1000), trace.Failed)) // which no subject has room for
	r.Add(about("watched", trace.Watched))
	reserved := about("e", trace.Sampled)
	reserved.Orchestrator = "_canary_x"
	r.Add(reserved)
	end()
	all := store.all()
	require.Len(t, all, 1)
	require.Equal(t, trace.Failed, all[0].Cause)
	require.Equal(t, "log", all[0].Hops[0].Tier)
	require.Empty(t, all[0].Hops[0].Node)
	require.Equal(t, []string{"edge", "edge-1"}, []string{all[0].Hops[1].Tier, all[0].Hops[1].Node})
	require.LessOrEqual(t, len(all[0].Hops[1].Detail), 256)
	require.Equal(t, map[string]float64{"failed": 1}, count(t, reg, "gateway_trace_records_total"))
}

// A stamp that cannot be stored costs nothing but itself: whoever has it goes on.
func TestAStreamThatDoesNotAnswerKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	r, reg := recorder(1000)
	store := &kept{hangs: true}
	end := runs(t, r, store)
	refused := 0
	for n := 0; refused < 10; n++ {
		if !r.Add(about(fmt.Sprint(n), trace.Failed)) {
			refused++
		}
	}
	require.Equal(t, map[string]float64{"full": 10}, count(t, reg, "gateway_trace_dropped_total"))
	require.LessOrEqual(t, len(store.all()), 64, "as many are under way as may")
	end()
}

func TestAfterAFailureTheStreamIsLeftAloneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, reg := recorder(1000)
		store := &kept{fails: errors.New("no such stream")}
		end := runs(t, r, store)
		r.Add(about("first", trace.Failed))
		synctest.Wait()
		r.Add(about("second", trace.Failed))
		synctest.Wait()
		require.Len(t, store.all(), 1)
		store.mu.Lock()
		store.fails = nil
		store.mu.Unlock()
		<-time.After(2 * time.Second)
		synctest.Wait()
		require.Len(t, store.all(), 2)
		require.Equal(t, map[string]float64{"unavailable": 1}, count(t, reg, "gateway_trace_dropped_total"))
		end()
	})
}

// Thousands of events have waited when daemons come back.
func TestEventsThatHaveWaitedLeaveRoomForThoseThatFail(t *testing.T) {
	t.Parallel()
	r, reg := recorder(1000)
	for n := range 3000 {
		r.Add(about(fmt.Sprint(n), trace.Waited))
	}
	require.True(t, r.Add(about("e", trace.Failed)))
	require.Greater(t, count(t, reg, "gateway_trace_dropped_total")["rate"], 1000.0)
}

func TestWhoeverWatchesIsToldUntilTheTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := recorder(0)
		store := &kept{}
		end := runs(t, r, store)
		told, leftOut := 0, 0
		tell := func(record trace.Record, n int) {
			leftOut += n
			if len(record.Hops) > 0 {
				told++
			}
		}
		watch := func(until time.Duration) { require.NoError(t, r.Watch("w", "o", time.Now().Add(until), tell)) }
		watch(time.Second)
		require.True(t, r.On())
		require.Equal(t, trace.Watched, r.Choose("o", 3, 7, nil))
		require.Equal(t, trace.None, r.Choose("other", 3, 7, nil))
		r.Add(about("e", r.Because("o", trace.Failed)))
		r.Say("o", trace.Hop{Step: trace.Connected})
		r.Say("other", trace.Hop{Step: trace.Connected})
		synctest.Wait()
		require.Equal(t, 2, told)
		require.Empty(t, store.all(), "tracing is off")

		watch(3 * time.Second) // again
		for range 2000 {
			r.Say("o", trace.Hop{Step: trace.Hinted})
		}
		<-time.After(1500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 2002, told+leftOut, "what is too much is counted")
		require.Positive(t, leftOut)
		<-time.After(3 * time.Second)
		synctest.Wait()
		require.False(t, r.On())
		watch(time.Minute)
		watch(0)
		require.False(t, r.On(), "it can be ended")
		end()
	})
}

func TestTooManyMayNotWatch(t *testing.T) {
	t.Parallel()
	r, _ := recorder(0)
	watch := func(n int) error {
		return r.Watch(fmt.Sprint(n), event.Token(fmt.Sprint(n%5)), time.Now().Add(time.Hour), func(trace.Record, int) {})
	}
	for n := range 16 {
		require.NoError(t, watch(n))
	}
	require.ErrorContains(t, watch(16), "16 operators trace already")
	require.NoError(t, watch(3), "who does so already goes on")
}

// exported is an exporter that remembers.
type exported struct{ records []trace.Record }

func (e *exported) Export(r trace.Record) { e.records = append(e.records, r) }

func exporting(t *testing.T, sample int) (*trace.Recorder, *exported) {
	t.Helper()
	r, _ := recorder(sample)
	sampler, err := tracing.NewSampler("parentbased_always_on", 1)
	require.NoError(t, err)
	to := &exported{}
	r.Export(to, sampler)
	return r, to
}

// spanned is a record that has a place in a trace.
func spanned(cause trace.Cause, late bool) trace.Record {
	record := about("e", cause)
	record.Span, _ = trace.NewSpan(&tracing.Context{TraceID: tracing.TraceID{1}, Sampled: true, Late: late}, time.Time{})
	return record
}

func TestWhatHasATraceIsExportedAndStampedWhateverTheSample(t *testing.T) {
	t.Parallel()
	r, to := exporting(t, 1<<29)
	require.Equal(t, trace.None, r.Choose("o", 3, 7, nil))
	chosen := &tracing.Context{TraceID: tracing.TraceID{1}, Sampled: true}
	require.Equal(t, trace.Sampled, r.Choose("o", 3, 7, chosen))
	require.Equal(t, trace.None, r.Choose("o", 3, 7, &tracing.Context{TraceID: tracing.TraceID{1}}), "its publisher has not sampled it")
	store := &kept{}
	end := runs(t, r, store)
	r.Add(spanned(trace.Sampled, false))
	r.Add(about("e", trace.Sampled)) // of which no span is told
	r.Add(spanned(trace.Watched, false))
	end()
	require.Len(t, to.records, 1)
	require.Equal(t, "edge-1", to.records[0].Hops[0].Node)
	require.Len(t, store.all(), 2)
	require.Equal(t, "01000000000000000000000000000000", store.all()[0].TraceID)

	off, _ := recorder(1)
	require.Equal(t, trace.Sampled, off.Choose("o", 3, 7, chosen), "as all are")
	off, _ = recorder(1 << 29)
	require.Equal(t, trace.None, off.Choose("o", 3, 7, chosen), "nobody exports")
}

func TestSpansAreExportedWhereNoStampsAreKept(t *testing.T) {
	t.Parallel()
	r, to := exporting(t, 0)
	require.True(t, r.On())
	require.Equal(t, trace.Failed, r.Because("o", trace.Failed))
	store := &kept{}
	end := runs(t, r, store)
	r.Add(spanned(trace.Failed, true))
	end()
	require.Len(t, to.records, 1)
	require.Empty(t, store.all())
}

// Thousands wait when daemons come back; those that somebody has chosen are told anyway.
func TestOfEventsThatHaveWaitedTheChosenOnesAreAllExported(t *testing.T) {
	t.Parallel()
	r, to := exporting(t, 1000)
	for range 2000 {
		r.Add(spanned(trace.Waited, true))
	}
	late := len(to.records)
	require.Less(t, late, 2000)
	for range 2000 {
		r.Add(spanned(trace.Waited, false))
	}
	require.Len(t, to.records, late+2000)
	require.NotNil(t, r.Late("o", "e", trace.Waited))
	require.Nil(t, r.Late("o", "e", trace.Sampled), "the sampler has said no")
}

// What is asked for each event.
func TestToChooseAllocatesNothing(t *testing.T) {
	r, _ := recorder(1 << 30)
	sequence := uint64(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		sequence++
		r.Choose("orchestrator", 3, sequence, nil)
	}))
}

func BenchmarkChoose(b *testing.B) {
	r, _ := recorder(1000)
	for sequence := range uint64(b.N) {
		r.Choose("orchestrator", 3, sequence, nil)
	}
}

func TestHopsAreToldOnceInTheOrderOfTheirTimes(t *testing.T) {
	t.Parallel()
	var hops trace.Hops
	later := about("e", trace.Sampled)
	later.Hops[0].At = time.Unix(5, 0)
	require.Len(t, hops.Add(later), 1)
	require.Empty(t, hops.Add(later))
	require.Len(t, hops.Add(about("e", trace.Sampled)), 1)
	other := about("other", trace.Sampled)
	require.Len(t, hops.Add(other), 1)
	require.Equal(t, time.Unix(5, 0), hops.Sorted()[2].At)
}
