package process_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheSystemSaysWhatAProcessUses(t *testing.T) {
	t.Parallel()
	p := start(t, roleCounter, fileVariable+"="+filepath.Join(t.TempDir(), "counters"))
	require.Eventually(t, func() bool {
		u, err := p.Usage()
		if errors.Is(err, errors.ErrUnsupported) {
			return true
		}
		require.NoError(t, err)
		return u.CPU > 0 && u.Resident > 0
	}, patience, time.Millisecond)
	p.Kill()
	_, err := p.Usage()
	require.Error(t, err, "nobody is there any more")
}
