package lane

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestRoutingAnEventNobodyHoldsDoesNotAllocate(t *testing.T) {
	f := newFixture(nil)
	m := message(11, "a")
	f.Event(m)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		m.Sequence++
		f.Event(m)
	}))
}

func TestCheckingAValidEventDoesNotAllocate(t *testing.T) {
	check := CheckEvent(event.DefaultMaxBytes, event.PartitionOf("a", 16), 16, nil)
	m := message(11, "a")
	m.Body = []byte(`{"id":"e","type":"message.received","orchestratorId":"a","payload":{"text":"hello"},"requiresAck":true}`)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if err := check(m); err != nil {
			t.Error(err)
		}
	}))
}

// What is left is of the batch: its place in the outbox, and that of its receipt.
func TestRoutingAnEventToItsEdgeAllocatesLittle(t *testing.T) {
	const size = 64
	f := newFixture(nil)
	f.holds["a"] = []string{"x"}
	m := message(10, "a")
	var effects []Effect
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		for range size {
			m.Sequence++
			f.Event(m)
		}
		f.Flush()
		effects = f.Take(effects[:0])
		for _, e := range effects {
			f.Receipt(e.(Send).ID, Received)
		}
	})/size, 1.0, "allocations for each event")
}

func BenchmarkEvent(b *testing.B) {
	f := newFixture(func(c *Config) { c.Inflight = 1 << 30 })
	tokens := make([]event.Token, 10_000)
	for i := range tokens {
		tokens[i] = event.Token(fmt.Sprint("orchestrator-", i))
		f.holds[tokens[i]] = []string{fmt.Sprint("edge-", i%20)}
	}
	b.ReportAllocs()
	var effects []Effect
	for i := range b.N {
		f.Event(message(uint64(11+i), tokens[i%len(tokens)]))
		if i%256 == 0 {
			f.Flush()
			effects = f.Take(effects[:0])
			for _, e := range effects {
				f.Receipt(e.(Send).ID, Received)
			}
		}
	}
}
