package cursor

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// stuck has one more dirty record of partition 0 than may be written at once, none
// of which can be until the test ends. That is fewer than otherwise, or the test
// would do nothing but write.
func stuck(t *testing.T, s *node) {
	t.Helper()
	p := s.partitions[0]
	p.writing = make(chan struct{}, 16)
	for i, held := 0, 0; held <= cap(p.writing); i++ {
		token := event.Token(fmt.Sprintf("t%d", i))
		if s.partition(token) != p {
			continue
		}
		held++
		connect(t, s, token, "d").moves(1)
		k, err := p.acquire(t.Context(), token)
		require.NoError(t, err)
		t.Cleanup(func() { p.release(token, k) })
	}
}

// waiting is how many writes wait for their record.
func (p *partition) waiting() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.keys {
		if k.users > 1 {
			n++
		}
	}
	return n
}

// elsewhere is a connection whose record is in partition 1.
func elsewhere(t *testing.T, s *node) *seat {
	t.Helper()
	for i := 0; ; i++ {
		if token := event.Token(fmt.Sprintf("o%d", i)); s.partition(token) == s.partitions[1] {
			return connect(t, s, token, "d")
		}
	}
}

func TestAPartitionThatDoesNotAnswerHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s, reader := openStore(t, server, 2, "a"), openStore(t, server, 2, "b")
	stuck(t, s)
	d := elsewhere(t, s)
	run(t, s)
	require.Eventually(t, func() bool { return s.partitions[0].waiting() >= cap(s.partitions[0].writing) }, waitTime, tick)
	d.moves(1)
	require.Eventually(t, func() bool { return stored(t, reader, d.token).Daemons["d"].Floor == 1 }, waitTime, tick)
}

func TestAPartitionThatDoesNotAnswerKeepsNoLastWord(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s, reader := openStore(t, server, 2, "a"), openStore(t, server, 2, "b")
	stuck(t, s)
	d := elsewhere(t, s)
	d.leaves()
	ctx, cancel := context.WithCancel(t.Context())
	flushed := make(chan error, 1)
	go func() { flushed <- s.FlushAll(ctx) }()
	require.Eventually(t, func() bool { return stored(t, reader, d.token).Daemons["d"].Edge == "" }, waitTime, tick)
	cancel()
	require.ErrorIs(t, <-flushed, context.Canceled)
}

// What a newer version has written stays as it is, and costs nobody else.
func TestARecordThatCannotBeWrittenKeepsNoOtherFromIt(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1, "a")
	newer, other := connect(t, s, "newer", "d"), connect(t, s, "other", "d")
	put(t, s, "newer", `{"v":2}`)
	newer.moves(1)
	other.moves(1)
	p := s.partitions[0]
	k, err := p.acquire(t.Context(), "other")
	require.NoError(t, err)
	flushed := make(chan error, 1)
	go func() { flushed <- s.FlushAll(t.Context()) }()
	require.Eventually(t, func() bool { return p.waiting() == 1 }, waitTime, tick)
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return testutil.ToFloat64(s.metrics.conflicts) == 1 && p.keys["newer"].users == 0
	}, waitTime, tick, "tried in vain")
	p.release("other", k)
	require.ErrorIs(t, <-flushed, ErrVersion)
	require.Equal(t, uint64(1), stored(t, s, "other").Daemons["d"].Floor)
}
