package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsLeftInMemoryIsDeletedByTheLastRunOrTheNextOne(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "memory")
	file := filepath.Join(name, "server", "file")
	run := func() memory {
		m, err := enter(name)
		require.NoError(t, err)
		return m
	}
	first, second := run(), run()
	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	first.leave()
	require.FileExists(t, file, "the other run may need it")
	third := run()
	require.FileExists(t, file, "as before")
	second.leave()
	third.leave()
	require.NoFileExists(t, file)

	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o755)) // by a run that was killed
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	run().leave()
	require.NoFileExists(t, file)
}

func TestWhoNamesAPlaceForTemporaryFilesHasThemThere(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := inMemory()
	require.Error(t, err)
}
