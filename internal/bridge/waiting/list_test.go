package waiting

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestAllAreAskedForAsLongAsThereIsRoom(t *testing.T) {
	t.Parallel()
	l := New()
	for n := range 10 {
		l.Join(protocol.OrchestratorID(fmt.Sprint(n)))
	}
	now := time.Unix(1000, 0)
	for range 20 {
		require.Len(t, l.Due(now, 10), 10)
	}
}

// TestWhoIsNewIsAskedForFirst: with more than can be asked for at once, those
// asked for in vain for long come less and less often, but they do come.
func TestWhoIsNewIsAskedForFirst(t *testing.T) {
	t.Parallel()
	l := New()
	now := time.Unix(1000, 0)
	old := map[protocol.OrchestratorID]bool{}
	for n := range 100 {
		id := protocol.OrchestratorID(fmt.Sprintf("old-%d", n))
		l.Join(id)
		old[id] = false
	}
	for range 100 {
		l.Due(now, 10)
		now = now.Add(firstInterval)
	}
	for n := range 200 {
		id := protocol.OrchestratorID(fmt.Sprintf("new-%d", n))
		l.Join(id)
		due := l.Due(now, 2)
		require.Contains(t, due, id)
		for _, id := range due {
			if _, ok := old[id]; ok {
				old[id] = true
			}
		}
		now = now.Add(10 * firstInterval)
	}
	for id, asked := range old {
		require.True(t, asked, id)
	}
}

// TestWhoIsSpokenToIsAskedForSooner: it may well exist by now.
func TestWhoIsSpokenToIsAskedForSooner(t *testing.T) {
	t.Parallel()
	l := New()
	now := time.Unix(1000, 0)
	l.Join("quiet")
	l.Join("spoken to")
	for range 10 {
		l.Due(now, 2)
	}
	l.Join("spoken to")
	require.Equal(t, []protocol.OrchestratorID{"spoken to"}, l.Due(now, 1))
}

func TestOneReleaseAtATime(t *testing.T) {
	t.Parallel()
	l := New()
	require.False(t, l.Release("nobody"))
	l.Join("vp")
	require.True(t, l.Release("vp"))
	require.False(t, l.Release("vp"))
	require.Equal(t, Hold, l.Turn("vp", true, false))
	l.Finish("vp", true)
	require.Equal(t, Direct, l.Turn("vp", true, false))
	require.False(t, l.Waits("vp"))
	require.Zero(t, l.Len())
	require.Empty(t, l.Due(time.Unix(1000, 0), 10))
}
