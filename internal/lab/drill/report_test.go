package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnlyWhatWasPromisedAndNotKeptMakesTheVerdictBad(t *testing.T) {
	t.Parallel()
	r := newReport()
	r.begin("a disk lost")
	r.step(time.Now().Add(-2*time.Second), "server started")
	r.price(10, 3, "published after the backup")
	r.promise(7, nil, "published before the backup")
	require.NoError(t, r.verdict(&bytes.Buffer{}))
	r.promise(5, []string{"event-1", "event-2"}, "published since")
	require.ErrorContains(t, r.verdict(&bytes.Buffer{}), "event-1")
	var table bytes.Buffer
	require.NoError(t, r.print(&table))
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
