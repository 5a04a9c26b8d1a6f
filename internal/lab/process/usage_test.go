package process_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheSystemSaysWhatAProcessUses(t *testing.T) {
	t.Parallel()
	counters := filepath.Join(t.TempDir(), "counters")
	require.NoError(t, os.WriteFile(counters, make([]byte, os.Getpagesize()), 0o600))
	p := start(t, roleCounter, fileVariable+"="+counters)
	require.Eventually(t, func() bool {
		u, err := p.Usage()
		return errors.Is(err, errors.ErrUnsupported) || err == nil && u.CPU > 0 && u.Resident > 0
	}, patience, time.Millisecond)
	p.Kill()
	_, err := p.Usage()
	require.Error(t, err, "nobody is there any more")
}
