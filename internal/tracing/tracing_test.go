package tracing_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	sampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

func TestAContextIsPassedOnAsItCame(t *testing.T) {
	t.Parallel()
	for _, text := range []string{sampled, unsampled} {
		c, ok := tracing.Parse(text, "vendor=1,other=2")
		require.True(t, ok)
		require.Equal(t, text, c.Traceparent())
		require.Equal(t, "vendor=1,other=2", c.State)
		require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", c.ID())
	}
	later, ok := tracing.Parse("cc-"+sampled[3:53]+"03-what-comes-later", "")
	require.True(t, ok)
	require.Equal(t, sampled, later.Traceparent(), "of another version, what is known")
}

func TestWhatIsNoContextCountsAsAbsent(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "00", sampled[:54], sampled + "-more", strings.ToUpper(sampled), "ff" + sampled[2:], "0x" + sampled[2:],
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		strings.Replace(sampled, "-", "_", 1), "cc" + sampled[2:] + ".", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\n",
	} {
		_, ok := tracing.Parse(text, "")
		require.False(t, ok, text)
	}
	for _, state := range []string{strings.Repeat("x", 513), "a=\r\nb: c", "a=ü"} {
		c, ok := tracing.Parse(sampled, state)
		require.True(t, ok)
		require.Empty(t, c.State)
	}
}

func sampler(t *testing.T, name string, ratio float64) *tracing.Sampler {
	s, err := tracing.NewSampler(name, ratio)
	require.NoError(t, err)
	return s
}

// Nobody tells anybody: the bridge that publishes an event and the router that reads it
// decide by themselves.
func TestAllTiersChooseTheSameEvents(t *testing.T) {
	t.Parallel()
	s := sampler(t, "parentbased_traceidratio", 0.01)
	chosen := 0
	const events = 50_000
	for n := range events {
		e := event.Event{ID: fmt.Sprint("event-", n), OrchestratorID: "vp.1"}
		token := event.TokenOf(e.OrchestratorID)
		begun := s.Begin(e, token)
		read := s.Read(func(key string) string {
			if key == "Nats-Msg-Id" {
				return event.MessageID(token, e.ID)
			}
			return ""
		}, "Nats-Msg-Id")
		require.Equal(t, begun, read)
		if begun != nil {
			chosen++
			require.True(t, begun.Sampled)
			require.Zero(t, begun.Parent)
			require.Equal(t, s.Late(token, e.ID).TraceID, begun.TraceID)
		}
	}
	require.InEpsilon(t, events/100, chosen, 0.2)
}

func TestIDsOfTracesDifferInAllTheirParts(t *testing.T) {
	t.Parallel()
	first, last := map[string]bool{}, map[string]bool{}
	for n := range 100_000 {
		id := tracing.IDOf(fmt.Sprint("o/", n))
		first[string(id[:8])], last[string(id[8:])] = true, true
	}
	require.Len(t, first, 100_000)
	require.Len(t, last, 100_000)
	require.NotEqual(t, tracing.IDOf("o/1"), tracing.IDOf("o/1\x00"))
	require.NotZero(t, tracing.IDOf(""))
}

func TestWhatThePublisherSaysCountsUnlessTheSamplerSaysOtherwise(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		ratio         float64
		yes, no, none bool
	}{
		{"always_on", 0, true, true, true},
		{"always_off", 1, false, false, false},
		{"traceidratio", 1, true, true, true},
		{"traceidratio", 0, false, false, false},
		{"parentbased_always_on", 0, true, false, true},
		{"parentbased_always_off", 1, true, false, false},
		{"parentbased_traceidratio", 1, true, false, true},
		{"parentbased_traceidratio", 0, true, false, false},
	} {
		s := sampler(t, test.name, test.ratio)
		for traceparent, want := range map[string]bool{sampled: test.yes, unsampled: test.no, "": test.none, "nonsense": test.none} {
			e := event.Event{ID: "e", OrchestratorID: "o", Trace: &event.TraceContext{Traceparent: traceparent}}
			require.Equal(t, want, s.Begin(e, "o").IfSampled() != nil, "%s of %q", test.name, traceparent)
			read := s.Read(func(key string) string {
				return map[string]string{tracing.HeaderTraceparent: traceparent, "id": "o/e"}[key]
			}, "id")
			require.Equal(t, want, read != nil, "%s reads %q", test.name, traceparent)
		}
		require.Equal(t, !strings.HasSuffix(test.name, "always_off"), s.Late("o", "e") != nil, test.name)
	}
	for name, ratio := range map[string]float64{"traceidratio": 1.5, "jaeger_remote": 1, "": 1} {
		_, err := tracing.NewSampler(name, ratio)
		require.Error(t, err, name)
	}
}

func TestWithoutASamplerNothingIsTraced(t *testing.T) {
	t.Parallel()
	var none *tracing.Sampler
	require.Nil(t, none.Begin(event.Event{ID: "e", Trace: &event.TraceContext{Traceparent: sampled}}, "o"))
	require.Nil(t, none.Read(func(string) string { return sampled }, "id"))
	require.Nil(t, none.Late("o", "e"))
	require.Nil(t, tracing.From(context.Background()))
	var c *tracing.Context
	require.Empty(t, c.ID())
	require.Equal(t, []any{"event", "e"}, c.Log("event", "e"))
	require.Equal(t, []any{"event", "e", "trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"},
		tracing.LogOf(event.Event{Trace: &event.TraceContext{Traceparent: unsampled}}, "event", "e"))
}

// What is asked for each event where spans are exported.
func TestToReadWhetherAnEventIsTracedAllocatesNothing(t *testing.T) {
	s := sampler(t, "parentbased_traceidratio", 0)
	header := func(string) string { return "" }
	require.Zero(t, testing.AllocsPerRun(1000, func() { s.Read(header, "id") }))
	s = sampler(t, "parentbased_traceidratio", 1e-12)
	header = func(key string) string {
		if key == "id" {
			return "orchestrator/3f1c2a7e-6b0d-4a57-9a52-1c7a3cf1d9b2"
		}
		return ""
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { s.Read(header, "id") }))
	e := event.Event{ID: "3f1c2a7e-6b0d-4a57-9a52-1c7a3cf1d9b2"}
	require.Zero(t, testing.AllocsPerRun(1000, func() { s.Begin(e, "orchestrator") }))
}

// What is asked for each event by the bridge that publishes it.
func BenchmarkBegin(b *testing.B) {
	e := event.Event{ID: "3f1c2a7e-6b0d-4a57-9a52-1c7a3cf1d9b2"}
	s, err := tracing.NewSampler("parentbased_traceidratio", 0.001)
	require.NoError(b, err)
	for b.Loop() {
		s.Begin(e, "orchestrator")
	}
}

func FuzzContexts(f *testing.F) {
	f.Add(sampled, "a=b")
	f.Add(unsampled, "")
	f.Fuzz(func(t *testing.T, traceparent, tracestate string) {
		c, ok := tracing.Parse(traceparent, tracestate)
		if !ok {
			require.Zero(t, c)
			return
		}
		again, ok := tracing.Parse(c.Traceparent(), c.State)
		require.True(t, ok)
		require.Equal(t, c, again)
	})
}
