package drill

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab"
)

func TestOnlyWhatWasPromisedAndNotKeptIsFound(t *testing.T) {
	t.Parallel()
	d := &drill{World: &lab.World{}}
	d.begin("a disk lost")
	d.step(time.Now().Add(-2*time.Second), "server started")
	d.price(10, 3, "published after the backup")
	d.promise(7, nil, "published before the backup")
	require.Empty(t, d.Findings())
	d.promise(5, []string{"event-1", "event-2"}, "published since")
	require.Len(t, d.Findings(), 1)
	require.Contains(t, d.Findings()[0], "event-1")
	var table bytes.Buffer
	require.NoError(t, d.print(&table))
	require.Contains(t, table.String(), "**A disk lost**")
	require.Regexp(t, `server started +\| 2.0 s \| +\| +\|`, table.String())
	require.Regexp(t, `published after the backup +\| +\| 10 +\| 3, expected +\|`, table.String())
	require.Regexp(t, `published since +\| +\| 5 +\| \*\*2, unexpected\*\* +\|`, table.String())
}

func TestOrchestratorsOfExercisesAreDifferent(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, o := range everybody() {
		require.False(t, seen[o.ID])
		seen[o.ID] = true
	}
	require.Len(t, seen, len(exercises())*len(habits))
}
