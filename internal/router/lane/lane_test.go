package lane

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// fixture is a lane whose directory the test writes.
type fixture struct {
	*Lane
	holds map[event.Token][]string
	now   time.Time
}

func newFixture(change func(*Config)) *fixture {
	f := &fixture{holds: map[event.Token][]string{}, now: time.Unix(1e9, 0)}
	cfg := Config{
		Partition: 3, Epoch: "e", Start: 10, Now: f.now,
		Holders: func(dst []string, o event.Token) []string { return append(dst, f.holds[o]...) },
		Check:   func(eventlog.Message) error { return nil },
	}
	if change != nil {
		change(&cfg)
	}
	f.Lane = New(cfg)
	return f
}

func (f *fixture) tick(d time.Duration) {
	f.now = f.now.Add(d)
	f.Tick(f.now)
}

// sends takes the effects, which must all be sends.
func (f *fixture) sends(t *testing.T) []Send {
	t.Helper()
	var out []Send
	for _, e := range f.Take(nil) {
		require.IsType(t, Send{}, e)
		out = append(out, e.(Send))
	}
	return out
}

func message(sequence uint64, token event.Token) eventlog.Message {
	return eventlog.Message{Token: token, Sequence: sequence, Body: []byte("{}")}
}

func TestForwardedEventsCarryTheirOrchestratorsPreviousSequence(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"], f.holds["b"] = []string{"x"}, []string{"x", "y"}
	require.Equal(t, Routed, f.Event(message(11, "a")))
	require.Equal(t, Routed, f.Event(message(12, "b")))
	require.Equal(t, Queued, f.Event(message(13, "c")))
	require.Equal(t, Skipped, f.Event(message(14, Sentinel)))
	require.Equal(t, Routed, f.Event(message(15, "a")))
	require.Equal(t, Skipped, f.Event(message(15, "a")), "a repeat")
	f.holds["c"] = []string{"y"}
	f.Event(message(16, "c"))
	f.Flush()

	sent := f.sends(t)
	require.Len(t, sent, 2)
	require.Equal(t, "x", sent[0].Edge)
	require.Equal(t, eventlog.Epoch("e"), sent[0].Batch.Epoch)
	require.Equal(t, [][2]uint64{{11, 10}, {12, 10}, {15, 11}}, claims(sent[0]))
	require.Equal(t, [][2]uint64{{12, 10}, {16, 13}}, claims(sent[1]))
}

func claims(s Send) (out [][2]uint64) {
	for _, e := range s.Batch.Events {
		out = append(out, [2]uint64{e.Sequence, e.After})
	}
	return out
}

// Invariant 2 rests on the truth of After; without raising the horizon the
// last event would claim that nothing of a stood between 10 and 14.
func TestForgettingAnOrchestratorRaisesWhatIsSaidOfIt(t *testing.T) {
	t.Parallel()
	f := newFixture(func(c *Config) { c.Memory = 2 })
	f.holds["a"], f.holds["d"] = []string{"x"}, []string{"x"}
	for i, token := range []event.Token{"a", "b", "c", "a", "d"} {
		f.Event(message(uint64(11+i), token))
	}
	f.Flush()
	// b came and a was forgotten (horizon 11), then b (12), then c (13).
	require.Equal(t, [][2]uint64{{11, 10}, {14, 11}, {15, 12}}, claims(f.sends(t)[0]))
	require.Equal(t, 2, f.memory.len())
}

func TestCheckpointFollowsReceipts(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"], f.holds["b"] = []string{"x"}, []string{"y"}
	f.Event(message(11, "c"))
	require.EqualValues(t, 11, f.Checkpoint(), "nobody holds it")
	f.Event(message(12, "a"))
	require.EqualValues(t, 11, f.Checkpoint(), "open")
	f.Flush()
	f.Event(message(13, "b"))
	f.Flush()
	sent := f.sends(t)
	require.EqualValues(t, 11, f.Checkpoint(), "in flight")
	f.Receipt(sent[1].ID, Received)
	require.EqualValues(t, 11, f.Checkpoint(), "12 is still in flight")
	f.Receipt(sent[0].ID, Received)
	require.EqualValues(t, 13, f.Checkpoint())
	require.True(t, f.Idle())
}

func TestUnansweredBatchIsSentOnceMoreThenHinted(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"], f.holds["b"] = []string{"x"}, []string{"x"}
	f.Event(message(11, "a"))
	f.Event(message(12, "a"))
	f.Event(message(13, "b"))
	f.Flush()
	first := f.sends(t)[0]
	f.Receipt(first.ID, TimedOut)
	second := f.sends(t)[0]
	require.Equal(t, first.Batch, second.Batch)
	require.Equal(t, first.ID, second.ID)
	require.Equal(t, 2, second.Attempt)
	require.Equal(t, 1, f.Lagging())

	f.Receipt(second.ID, TimedOut)
	require.EqualValues(t, 10, f.Checkpoint(), "missed is not handed over")
	f.Flush()
	require.Empty(t, f.sends(t), "not before the backoff")
	f.tick(firstRetry)
	hints := f.sends(t)
	require.Len(t, hints, 1)
	require.Empty(t, hints[0].Batch.Events)
	require.Len(t, hints[0].Batch.Hints, 2)
	require.EqualValues(t, 12, hints[0].Batch.Hints[0].Sequence)
	f.Receipt(hints[0].ID, Received)
	require.EqualValues(t, 13, f.Checkpoint())
	require.Zero(t, f.Lagging())
}

func TestLateReceiptOfTheFirstAttemptCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"] = []string{"x"}
	f.Event(message(11, "a"))
	f.Flush()
	id := f.sends(t)[0].ID
	f.Receipt(id, TimedOut)
	f.Receipt(id, Received)
	f.Receipt(id, TimedOut)
	require.EqualValues(t, 11, f.Checkpoint())
	require.True(t, f.Idle())
	require.Zero(t, f.Lagging())
}

func TestNobodyWaitsForALaggingEdge(t *testing.T) {
	t.Parallel()
	f := newFixture(func(c *Config) { c.Inflight = 2 })
	f.holds["a"], f.holds["b"] = []string{"x"}, []string{"y"}
	for q := uint64(11); q < 13; q++ {
		f.Event(message(q, "a"))
		f.Flush()
	}
	sent := f.sends(t)
	f.Receipt(sent[0].ID, TimedOut)
	f.sends(t)
	for q := uint64(13); q < 1000; q++ {
		f.Event(message(q, "a"))
	}
	f.Event(message(1000, "b"))
	f.Flush()
	live := f.sends(t)
	require.Len(t, live, 1)
	require.Equal(t, "y", live[0].Edge)

	// The edge is back: one hint for all of it, and events flow again.
	f.Receipt(sent[0].ID, Received)
	f.Event(message(1001, "a"))
	f.Flush()
	back := f.sends(t)
	require.Len(t, back, 1)
	require.Equal(t, [][2]uint64{{1001, 999}}, claims(back[0]))
	require.EqualValues(t, 999, back[0].Batch.Hints[0].Sequence)
	require.EqualValues(t, 11, f.Checkpoint(), "12 is still in flight")
}

// Regression: an edge that changed its NATS server was back within milliseconds,
// and its daemons waited until what was lost meanwhile had timed out.
func TestEdgeThatIsNotThereHasLostAllThatItDidNotAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"], f.holds["b"] = []string{"x"}, []string{"x"}
	f.Event(message(11, "a"))
	f.Flush()
	f.Event(message(12, "b"))
	f.Flush()
	sent := f.sends(t)
	require.Len(t, sent, 2)
	f.Receipt(sent[1].ID, NoResponders)
	require.EqualValues(t, 10, f.Checkpoint())
	f.tick(firstRetry)
	hints := f.sends(t)
	require.Len(t, hints, 1)
	require.Len(t, hints[0].Batch.Hints, 2)
	f.Receipt(sent[0].ID, Received)
	require.EqualValues(t, 10, f.Checkpoint(), "the hints tell what was received")
	f.Receipt(hints[0].ID, Received)
	require.EqualValues(t, 12, f.Checkpoint())
	require.True(t, f.Idle())
}

func TestRetriesOfHintsBackOff(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"] = []string{"x"}
	f.Event(message(11, "a"))
	f.Flush()
	f.Receipt(f.sends(t)[0].ID, NoResponders)
	tries := 0
	for range 200 { // 20 s
		f.tick(100 * time.Millisecond)
		for _, s := range f.sends(t) {
			tries++
			f.Receipt(s.ID, NoResponders)
		}
	}
	require.Equal(t, 21, tries, "after 0.25, 0.5 and then 1 second each, about")
	require.EqualValues(t, 10, f.Checkpoint())
}

func TestEdgeGoneReleasesItsPart(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"], f.holds["b"] = []string{"x"}, []string{"x"}
	f.Event(message(11, "a"))
	f.Flush()
	f.Event(message(12, "b"))
	delete(f.holds, "a")
	f.EdgeGone("x") // but it came back with b before the lane heard
	f.Receipt(f.sends(t)[0].ID, Received)
	require.EqualValues(t, 11, f.Checkpoint(), "a released, b still owed")
	f.Flush()
	sent := f.sends(t)
	require.Len(t, sent, 1)
	require.Len(t, sent[0].Batch.Hints, 1)
	delete(f.holds, "b")
	f.EdgeGone("x")
	require.EqualValues(t, 12, f.Checkpoint())
	require.True(t, f.Idle())
	f.EdgeGone("never seen")
}

func TestNewClaimIsAnsweredWithAHint(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		wait  time.Duration
		token event.Token
		leave bool
		hint  bool
	}{
		"at once":          {token: "a", hint: true},
		"within a minute":  {token: "a", wait: 59 * time.Second, hint: true},
		"after a minute":   {token: "a", wait: time.Minute},
		"no event seen":    {token: "b"},
		"and gone already": {token: "a", leave: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(nil)
			f.Event(message(11, "a"))
			f.tick(c.wait)
			if !c.leave {
				f.holds[c.token] = []string{"x"}
			}
			f.ClaimAdded(c.token, "x")
			require.EqualValues(t, 11, f.Checkpoint(), "nobody held it when it was seen")
			f.Flush()
			sent := f.sends(t)
			if !c.hint {
				require.Empty(t, sent)
				return
			}
			require.Len(t, sent, 1)
			require.EqualValues(t, 11, sent[0].Batch.Hints[0].Sequence)
		})
	}
}

func TestBatchesCloseByCountAndBytes(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"] = []string{"x"}
	for q := range uint64(300) {
		f.Event(message(11+q, "a"))
	}
	sent := f.sends(t)
	require.Len(t, sent, 1)
	require.Len(t, sent[0].Batch.Events, maxBatchEvents)
	f.Flush()
	require.Len(t, f.sends(t)[0].Batch.Events, 44)

	for q := range uint64(3) {
		m := message(1000+q, "a")
		m.Body = make([]byte, 256<<10)
		f.Event(m)
	}
	f.Flush()
	require.Len(t, f.sends(t), 3, "two with their heads are over the limit")

	huge := message(2000, "a")
	huge.Body = make([]byte, maxBatchBytes)
	f.Event(huge)
	f.Flush()
	sent = f.sends(t)
	require.Len(t, sent, 1)
	require.Empty(t, sent[0].Batch.Events, "what fits no batch is hinted")
	require.Len(t, sent[0].Batch.Hints, 1)
}

func TestFullBatchFitsANATSMessage(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	for i := range 256 {
		token := event.Token(fmt.Sprintf("%s%0300d", "t", i))
		f.holds[token] = []string{"x"}
		f.Event(message(uint64(11+i), token))
		f.ClaimAdded(token, "x")
	}
	m := message(1000, "z")
	f.holds["z"] = []string{"x"}
	m.Body = make([]byte, maxBatchBytes-itemOverhead-1)
	f.Event(m)
	f.Flush()
	for _, s := range f.sends(t) {
		require.Less(t, len(s.Batch.Encode(nil)), 1<<20-4096)
	}
}

func TestRefusedEventsGoToTheDeadLettersBeforeTheCheckpointPasses(t *testing.T) {
	t.Parallel()
	f := newFixture(func(c *Config) { c.Check = nil })
	f.holds["a"] = []string{"x"}
	cases := map[string]event.Reason{
		`nonsense`: event.ReasonNotJSON,
		`{"id":"1","type":"message.sent","payload":{}}`:                                   event.ReasonMissingField,
		`{"id":"1","type":"message.sent","orchestratorId":"b","payload":{}}`:              event.ReasonWrongSubject,
		`{"id":"1","type":"message.sent","orchestratorId":"a","payload":{},"daemonId":7}`: event.ReasonInvalidField,
	}
	sequence := uint64(10)
	for body, reason := range cases {
		sequence++
		require.Equal(t, Refused, f.Event(eventlog.Message{Token: "a", Sequence: sequence, Body: []byte(body)}))
		effects := f.Take(nil)
		require.Len(t, effects, 1)
		require.Equal(t, reason, effects[0].(DeadLetter).Invalid.Reason)
		require.Equal(t, sequence-1, f.Checkpoint())
		f.DeadLettered(sequence, true)
		require.Equal(t, sequence, f.Checkpoint())
	}
	valid := eventlog.Message{Token: "a", Sequence: 15, Body: []byte(`{"id":"1","type":"message.sent","orchestratorId":"a","payload":{}}`)}
	require.Equal(t, Routed, f.Event(valid))
}

func TestDeadLetterThatCannotBeStoredIsTriedAgainAndBoundsTheLane(t *testing.T) {
	t.Parallel()
	f := newFixture(func(c *Config) { c.Check = func(eventlog.Message) error { return fmt.Errorf("bad") } })
	for q := uint64(11); f.Hold() == 0; q++ {
		f.Event(message(q, "a"))
	}
	require.Len(t, f.Take(nil), MaxRefused)
	f.DeadLettered(11, false)
	f.tick(firstRetry / 2)
	require.Empty(t, f.Take(nil))
	f.tick(firstRetry / 2)
	again := f.Take(nil)
	require.Len(t, again, 1)
	require.EqualValues(t, 11, again[0].(DeadLetter).Message.Sequence)
	f.DeadLettered(11, true)
	f.DeadLettered(11, true)
	require.Zero(t, f.Hold())
	require.EqualValues(t, 11, f.Checkpoint())
}

// One partition, twenty edges, and one of them is slow or silent. How long do
// the events of the others wait, by the lane's own clock?
func TestNobodyWaitsForASlowEdge(t *testing.T) {
	t.Parallel()
	const edges = 20
	never := time.Hour
	tests := []struct {
		name   string
		rate   int           // events a second
		answer time.Duration // of the slow edge
	}{
		{"slow at a moderate rate", 775, 1900 * time.Millisecond},
		{"silent at a moderate rate", 775, never},
		{"slow under load", 20_000, 1900 * time.Millisecond},
		{"silent under load", 20_000, never},
		{"a little slow under load", 20_000, 100 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSlowEdge(edges, tt.rate, tt.answer)
			waited := s.run(5 * time.Second)
			require.NotEmpty(t, waited)
			slices.Sort(waited)
			require.Less(t, waited[len(waited)*99/100], 20*time.Millisecond, "p99 of the other edges")
			require.LessOrEqual(t, waited[len(waited)-1], 20*time.Millisecond, "the longest")
		})
	}
}

// slowEdge is a lane with one edge that takes long to answer, all others a
// millisecond, fed at a steady rate in steps of a millisecond.
type slowEdge struct {
	*fixture
	edges   int
	perStep float64
	answer  time.Duration
	answers []answer
}

type answer struct {
	at time.Time
	id BatchID
	is Outcome
}

func newSlowEdge(edges, rate int, after time.Duration) *slowEdge {
	s := &slowEdge{fixture: newFixture(nil), edges: edges, perStep: float64(rate) / 1000, answer: after}
	for i := range edges {
		s.holds[event.Token(fmt.Sprint("o", i))] = []string{fmt.Sprint("edge", i)}
	}
	return s
}

// run returns how long each event for the other edges waited before it was sent.
func (s *slowEdge) run(length time.Duration) (waited []time.Duration) {
	arrived := map[uint64]time.Time{}
	next, fed := uint64(11), uint64(11)
	end, due := s.now.Add(length), 0.0
	for s.now.Before(end) {
		for due += s.perStep; due >= 1; due-- {
			arrived[next] = s.now
			next++
		}
		for ; fed < next && s.Hold() == 0; fed++ {
			s.Event(message(fed, event.Token(fmt.Sprint("o", fed%uint64(s.edges)))))
		}
		s.Tick(s.now)
		for _, effect := range s.Take(nil) {
			waited = append(waited, s.sent(effect.(Send), arrived)...)
		}
		s.now = s.now.Add(time.Millisecond)
		s.hearAnswers()
		s.Tick(s.now)
	}
	for ; fed < next; fed++ { // what still waits, if all of it does
		waited = append(waited, s.now.Sub(arrived[fed]))
	}
	return waited
}

func (s *slowEdge) sent(send Send, arrived map[uint64]time.Time) (waited []time.Duration) {
	if send.Edge != "edge0" {
		for _, e := range send.Batch.Events {
			waited = append(waited, s.now.Sub(arrived[e.Sequence]))
		}
		s.answers = append(s.answers, answer{s.now.Add(time.Millisecond), send.ID, Received})
		return waited
	}
	const forwardTimeout = 2 * time.Second
	if s.answer > forwardTimeout {
		s.answers = append(s.answers, answer{s.now.Add(forwardTimeout), send.ID, TimedOut})
	} else {
		s.answers = append(s.answers, answer{s.now.Add(s.answer), send.ID, Received})
	}
	return nil
}

func (s *slowEdge) hearAnswers() {
	s.answers = slices.DeleteFunc(s.answers, func(a answer) bool {
		due := !s.now.Before(a.at)
		if due {
			s.Receipt(a.id, a.is)
		}
		return due
	})
}

// A router that catches up goes at the pace of edges that answer: hints would
// have each of them read the log instead.
func TestARouterThatCatchesUpWaitsForEdgesThatAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.holds["a"] = []string{"x"}
	const last = 200_000
	fed, hinted := uint64(10), 0
	for fed < last {
		for f.Hold() == 0 && fed < last {
			fed++
			f.Event(message(fed, "a"))
		}
		for _, s := range f.sends(t) {
			hinted += len(s.Batch.Hints)
			f.Receipt(s.ID, Received)
		}
		f.tick(time.Millisecond)
	}
	require.Zero(t, hinted)
}
