package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/bridge/waiting"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// faultyStore fails as it is told; no real server can be made to.
type faultyStore struct {
	fail    func(try int, token event.Token, id string) error // of publishes
	failBox func(try int) error                               // of dead letters

	mu      sync.Mutex
	tries   map[string]int
	boxTry  int
	stored  map[event.Token][]string
	letters []eventlog.DeadLetter
	flying  map[event.Token]int
	worst   int
}

func newFaultyStore() *faultyStore {
	return &faultyStore{
		fail:    func(int, event.Token, string) error { return nil },
		failBox: func(int) error { return nil },
		tries:   map[string]int{}, stored: map[event.Token][]string{}, flying: map[event.Token]int{},
	}
}

func (s *faultyStore) PublishAsync(_ context.Context, token event.Token, id string, _ []byte, done func(eventlog.Ack, error)) {
	s.mu.Lock()
	s.flying[token]++
	s.worst = max(s.worst, s.flying[token])
	s.mu.Unlock()
	go func() {
		s.mu.Lock()
		s.tries[id]++
		err := s.fail(s.tries[id], token, id)
		if err == nil {
			s.stored[token] = append(s.stored[token], id)
		}
		s.flying[token]--
		s.mu.Unlock()
		done(eventlog.Ack{}, err)
	}()
}

func (s *faultyStore) Purged(context.Context, event.Token, eventlog.Ack) (bool, error) {
	return false, nil
}

func (s *faultyStore) DeadLetter(_ context.Context, letter eventlog.DeadLetter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxTry++
	if err := s.failBox(s.boxTry); err != nil {
		return err
	}
	s.letters = append(s.letters, letter)
	return nil
}

// pumpAll runs a pump over the messages until all are settled.
func pumpAll(t *testing.T, s store, find lookup, messages ...heard) *metrics {
	t.Helper()
	in := newInbox(10_000, maxBufferBytes)
	m := newMetrics(prometheus.NewPedanticRegistry())
	p := newPump(in, find, nil, func() bool { return true }, event.DefaultMaxBytes, m, discard)
	for _, h := range messages {
		in.push(h)
	}
	in.close()
	require.Zero(t, p.run(t.Context(), s))
	if faulty, ok := s.(*faultyStore); ok {
		require.LessOrEqual(t, faulty.worst, 1, "two publishes of one orchestrator at once")
	}
	return m
}

// However often a daemon has events, whose it is is asked again in the end.
func TestWhoseADaemonIsIsNotRememberedForEver(t *testing.T) {
	t.Parallel()
	in := newInbox(10, maxBufferBytes)
	p := newPump(in, nil, nil, func() bool { return true }, event.DefaultMaxBytes, newMetrics(prometheus.NewPedanticRegistry()), discard)
	asked := time.Now().Add(-knownDaemonFor / 2)
	p.daemons.put("d1", "vp", asked)
	in.push(heard{channel: "daemon:d1:events", body: []byte(eventJSON("channel", 0))})
	in.close()
	s := newFaultyStore()
	require.Zero(t, p.run(t.Context(), s))
	require.Len(t, s.stored["vp"], 1)
	_, known := p.daemons.get("d1", asked.Add(knownDaemonFor+time.Second))
	require.False(t, known)
}

func TestFailedPublishesKeepTheOrder(t *testing.T) {
	t.Parallel()
	s := newFaultyStore()
	s.fail = func(try int, token event.Token, id string) error {
		if try == 1 && (len(id)%2 == 0 || id == "event_vp1_3") {
			return fmt.Errorf("%w: leader lost", eventlog.ErrUnavailable)
		}
		return nil
	}
	var messages []heard
	for n := range 12 {
		for o := range 5 {
			messages = append(messages, heard{channel: "daemon:events", body: []byte(eventJSON(fmt.Sprintf("vp%d", o), n))})
		}
	}
	m := pumpAll(t, s, nil, messages...)
	for o := range 5 {
		name := fmt.Sprintf("vp%d", o)
		require.Equal(t, eventIDs(name, 0, 12), s.stored[event.Token(name)])
	}
	require.Positive(t, testutil.ToFloat64(m.retries))
}

// TestRefusedEventIsBuried: what the log will never take must not hold up what
// comes after it, and must not be lost while the dead letters are away.
func TestRefusedEventIsBuried(t *testing.T) {
	t.Parallel()
	s := newFaultyStore()
	s.fail = func(_ int, _ event.Token, id string) error {
		if id == "event_vp_1" {
			return eventlog.ErrTooLarge
		}
		return nil
	}
	s.failBox = func(try int) error {
		if try <= 2 {
			return eventlog.ErrUnavailable
		}
		return nil
	}
	var messages []heard
	for n := range 4 {
		messages = append(messages, heard{channel: "daemon:events", body: []byte(eventJSON("vp", n))})
	}
	m := pumpAll(t, s, nil, messages...)
	require.Equal(t, []string{"event_vp_0", "event_vp_2", "event_vp_3"}, s.stored["vp"])
	require.Len(t, s.letters, 1)
	require.Equal(t, event.ReasonRefused, s.letters[0].Reason)
	require.Equal(t, "event_vp_1", s.letters[0].EventID)
	require.Equal(t, event.Token("vp"), s.letters[0].Token)
	require.EqualValues(t, 1, testutil.ToFloat64(m.rejected.Of(event.ReasonRefused)))
}

// Regression (invariant 1): the network's own errors, which nobody has
// classified, counted as refusals from the sixth failure on, whatever the first
// five were, and a good event went to the dead letters.
func TestErrorThatSaysNothingOfTheEventIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newFaultyStore()
	s.fail = func(try int, _ event.Token, _ string) error {
		switch {
		case try <= 5:
			return fmt.Errorf("%w: no answer", eventlog.ErrUnavailable)
		case try <= 8:
			return fmt.Errorf("write tcp: %w", syscall.EPIPE)
		}
		return nil
	}
	pumpAll(t, s, nil, heard{channel: "daemon:events", body: []byte(eventJSON("vp", 0))})
	require.Equal(t, eventIDs("vp", 0, 1), s.stored["vp"])
	require.Empty(t, s.letters)
}

// TestLookups: messages of one daemon keep their order whether its orchestrator
// has to be asked for, more than once, or is known already.
func TestLookups(t *testing.T) {
	t.Parallel()
	asked := map[protocol.DaemonID]int{}
	var mu sync.Mutex
	find := func(_ context.Context, id protocol.DaemonID) (protocol.OrchestratorID, error) {
		mu.Lock()
		defer mu.Unlock()
		asked[id]++
		switch {
		case id == "nobody":
			return "", errNoSession
		case asked[id] == 1:
			return "", errors.New("Redis is away")
		}
		return "vp", nil
	}
	s := newFaultyStore()
	var messages []heard
	for n := range 5 {
		messages = append(messages, heard{channel: "daemon:d1:events", body: []byte(eventJSON("channel-1", n))})
	}
	messages = append(messages, heard{channel: "daemon:nobody:events", body: []byte(eventJSON("channel-2", 0))})
	pumpAll(t, s, find, messages...)
	require.Equal(t, eventIDs("channel-1", 0, 5), s.stored["vp"])
	require.Equal(t, map[protocol.DaemonID]int{"d1": 2, "nobody": 1}, asked, "an answer is remembered")
	require.Len(t, s.letters, 1)
	require.Equal(t, event.ReasonUnresolvedDaemon, s.letters[0].Reason)
	require.EqualValues(t, "nobody", s.letters[0].Daemon, "which its text may not say")
}

// Regression: a Redis that could not be asked for half a minute was taken for the
// answer that a daemon has no orchestrator.
func TestLookupThatFailsIsTriedUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		find := func(context.Context, protocol.DaemonID) (protocol.OrchestratorID, error) {
			if asked++; asked <= 60 {
				return "", errors.New("Redis is away")
			}
			return "vp", nil
		}
		s := newFaultyStore()
		pumpAll(t, s, find, heard{channel: "daemon:d1:events", body: []byte(eventJSON("channel-1", 0))})
		require.Equal(t, eventIDs("channel-1", 0, 1), s.stored["vp"])
		require.Empty(t, s.letters)
	})
}

// slowIdentities remembers vp0 and answers for others when it is told to.
type slowIdentities struct {
	asked   atomic.Int64
	answers chan struct{}
}

func (s *slowIdentities) Cached(id protocol.OrchestratorID) (identity.Identity, bool) {
	return identity.Identity{Orchestrator: id}, id == "vp0"
}

func (s *slowIdentities) ResolveMany(_ context.Context, ids []protocol.OrchestratorID) map[protocol.OrchestratorID]identity.Answer {
	s.asked.Add(int64(len(ids)))
	<-s.answers
	answers := map[protocol.OrchestratorID]identity.Answer{}
	for _, id := range ids {
		answers[id] = identity.Answer{Identity: identity.Identity{Orchestrator: id + "-known"}}
	}
	return answers
}

// TestWhoIsRememberedWaitsForNobody: while no answer comes for more addressees
// than are worked on at a time, and than are asked for at a time.
func TestWhoIsRememberedWaitsForNobody(t *testing.T) {
	t.Parallel()
	const others = maxAsking*askAtOnce + window
	s := newFaultyStore()
	people := &slowIdentities{answers: make(chan struct{})}
	in := newInbox(100_000, maxBufferBytes)
	m := newMetrics(prometheus.NewPedanticRegistry())
	p := newPump(in, nil, &addressBook{identities: people, waiting: waiting.New()}, func() bool { return true }, event.DefaultMaxBytes, m, discard)
	for n := range others {
		in.push(heard{channel: "daemon:events", body: []byte(eventJSON(fmt.Sprintf("other%d", n), 0))})
		in.push(heard{channel: "daemon:events", body: []byte(eventJSON(fmt.Sprintf("other%d", n%10), n+1))})
	}
	in.push(heard{channel: "daemon:events", body: []byte(eventJSON("vp0", 0))})
	ended := make(chan int)
	go func() { ended <- p.run(t.Context(), s) }()
	eventually(t, func() bool { return testutil.ToFloat64(m.published) == 1 }, "vp0's event is stored")
	require.LessOrEqual(t, people.asked.Load(), int64(maxAsking*askAtOnce))
	close(people.answers)
	in.close()
	require.Zero(t, <-ended)
	require.Zero(t, testutil.ToFloat64(m.dropped))
	require.Empty(t, p.passing)
	require.Len(t, s.stored, others+1)
	for n := range 10 {
		name := fmt.Sprintf("other%d", n)
		require.Len(t, s.stored[event.Token(name+"-known")], 1+(others+9-n)/10)
	}
	require.LessOrEqual(t, s.worst, 1)
}

// TestDaemonCacheIsBounded: it starts over rather than grow.
func TestDaemonCacheIsBounded(t *testing.T) {
	t.Parallel()
	var c daemonCache
	now := time.Unix(1000, 0)
	for n := range maxKnownDaemons + 1 {
		c.put(protocol.DaemonID(fmt.Sprint(n)), "vp", now)
	}
	require.Len(t, c.known, 1)
	_, ok := c.get(protocol.DaemonID(fmt.Sprint(maxKnownDaemons)), now)
	require.True(t, ok)
	_, ok = c.get(protocol.DaemonID(fmt.Sprint(maxKnownDaemons)), now.Add(knownDaemonFor+1))
	require.False(t, ok, "an answer gets old")
}
