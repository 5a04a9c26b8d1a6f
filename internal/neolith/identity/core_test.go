package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var (
	start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	vp    = Identity{Orchestrator: "vp", Organization: "org"}
)

func newTestCache(t *testing.T, size int) *cache {
	t.Helper()
	cfg := settings.Default[Config]()
	cfg.IdentityCacheSize = size
	c, err := newCache(cfg)
	require.NoError(t, err)
	return c
}

func TestAnIdentityIsFreshForItsTTLAndGoodWithoutPostgresForADay(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, 10)
	c.put("user", vp, true, start)
	for _, test := range []struct {
		after        time.Duration
		fresh, stale bool
	}{
		{0, true, true},
		{5*time.Minute - 1, true, true},
		{5 * time.Minute, false, true},
		{24*time.Hour - 1, false, true},
		{24 * time.Hour, false, false},
	} {
		answer, ok := c.fresh("user", start.Add(test.after))
		require.Equal(t, test.fresh, ok, test.after)
		if ok {
			require.Equal(t, Answer{Identity: vp}, answer)
		}
		identity, ok := c.stale("user", start.Add(test.after))
		require.Equal(t, test.stale, ok, test.after)
		if ok {
			require.Equal(t, vp, identity)
		}
	}
}

func TestThatAnIDIsUnknownIsBelievedForTwoSecondsAndNeverWithoutPostgres(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, 10)
	c.put("vp", Identity{}, false, start)
	answer, ok := c.fresh("vp", start.Add(2*time.Second-1))
	require.True(t, ok)
	require.ErrorIs(t, answer.Err, ErrUnknown)
	_, ok = c.fresh("vp", start.Add(2*time.Second))
	require.False(t, ok)
	_, ok = c.stale("vp", start)
	require.False(t, ok)
}

func TestANewAnswerReplacesTheOldOne(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, 10)
	c.put("vp", Identity{}, false, start)
	c.put("vp", vp, true, start)
	answer, ok := c.fresh("vp", start)
	require.True(t, ok)
	require.NoError(t, answer.Err)
	c.put("vp", Identity{}, false, start)
	answer, ok = c.fresh("vp", start)
	require.True(t, ok)
	require.ErrorIs(t, answer.Err, ErrUnknown)
	_, ok = c.stale("vp", start)
	require.False(t, ok, "a deleted orchestrator is not remembered")
}

func TestTheCacheIsBoundedAndMadeUpIDsPushNobodyOut(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, 2)
	for _, id := range []protocol.OrchestratorID{"a", "b", "c"} {
		c.put(id, vp, true, start)
	}
	_, ok := c.fresh("a", start)
	require.False(t, ok, "the one not used for longest goes")
	for i := range maxUnknown + 1 {
		c.put(protocol.OrchestratorID(fmt.Sprint(i)), Identity{}, false, start)
	}
	require.Equal(t, maxUnknown, c.unknown.Len())
	for _, id := range []protocol.OrchestratorID{"b", "c"} {
		_, ok = c.fresh(id, start)
		require.True(t, ok, id)
	}
}

func TestAnIDWinsOverAUserIDInWhateverOrderTheRowsCome(t *testing.T) {
	t.Parallel()
	rows := []row{
		{ID: "a", User: "b", Organization: "org-a"},
		{ID: "b", User: "a", Organization: "org-b"},
		{ID: "c", User: "user-c", Organization: "org-c"},
		{ID: "b", User: "a", Organization: "org-b"}, // found twice
	}
	want := map[protocol.OrchestratorID]Identity{
		"a": {"a", "b", "org-a"}, "b": {"b", "a", "org-b"}, "c": {"c", "user-c", "org-c"}, "user-c": {"c", "user-c", "org-c"},
	}
	ids := []protocol.OrchestratorID{"a", "b", "c", "user-c", "nobody"}
	require.Equal(t, want, match(ids, rows))
	slices.Reverse(rows)
	require.Equal(t, want, match(ids, rows))
}

func TestAfterAFailureOneLookupASecondTries(t *testing.T) {
	t.Parallel()
	cause := errors.New("refused")
	var b breaker
	require.NoError(t, b.admit(start))
	require.True(t, b.failed(cause, start))
	require.False(t, b.failed(cause, start))
	require.ErrorIs(t, b.admit(start.Add(retryAfter-1)), cause)
	retry := start.Add(retryAfter)
	require.NoError(t, b.admit(retry))
	require.ErrorIs(t, b.admit(retry), cause, "while one tries, the others do not wait")
	require.True(t, b.succeeded())
	require.NoError(t, b.admit(retry))
	require.False(t, b.succeeded())
}

func TestALookupThatTriesAndNeverEndsIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	var b breaker
	b.failed(errors.New("refused"), start)
	retry := start.Add(retryAfter)
	require.NoError(t, b.admit(retry))
	require.NoError(t, b.admit(retry.Add(queryTimeout+retryAfter)))
}

func TestWhatCannotBeAnIDIsNotAskedFor(t *testing.T) {
	t.Parallel()
	for _, id := range []protocol.OrchestratorID{"", "a\x00b", "\xff", protocol.OrchestratorID(strings.Repeat("a", protocol.MaxIDBytes+1))} {
		require.False(t, plausible(id), "%q", id)
	}
	require.True(t, plausible("Zoë 1"))
}
