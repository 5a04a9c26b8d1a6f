package reread

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func TestFaultsAreSaidOnceAndShownUntilTheyAreMended(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	var out bytes.Buffer
	reg := prometheus.NewRegistry()
	var taken []string
	f := &File{Setting: "LIST_FILE", Path: path, Take: func(content []byte) error {
		taken = append(taken, string(content))
		if strings.Contains(string(content), "bad") {
			return errors.New("line 1: expected something good")
		}
		return nil
	}}
	f.Observe(slog.New(slog.NewTextHandler(&out, nil)), reg)
	shows := func(value string) {
		t.Helper()
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_file_faulty 1 while a file that is read again at run time cannot be read, or has lines that cannot be used; by the setting that names it.
# TYPE gateway_file_faulty gauge
gateway_file_faulty{setting="LIST_FILE"} `+value+"\n")))
	}
	require.ErrorContains(t, f.Look(), "no such file")
	require.Error(t, f.Look())
	shows("1")
	require.Equal(t, 1, strings.Count(out.String(), "level=ERROR"))
	write("good")
	require.NoError(t, f.Look())
	require.NoError(t, f.Look())
	shows("0")
	require.Equal(t, []string{"good"}, taken, "what has not changed is not taken again")
	write("bad")
	require.Error(t, f.Look())
	require.Error(t, f.Look())
	shows("1")
	require.Equal(t, 2, strings.Count(out.String(), "level=ERROR"))
	write("good")
	require.NoError(t, f.Look())
	shows("0")
	require.NoError(t, os.Remove(path))
	require.ErrorContains(t, f.Look(), "what was read before stays in force")
	write("good")
	require.NoError(t, f.Look())
	shows("0")
	write(strings.Repeat("x", maxBytes+1))
	require.ErrorIs(t, f.Look(), errTooLarge)
}

func TestAChangeCountsSoon(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	require.NoError(t, os.WriteFile(path, []byte("one"), 0o600))
	taken := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	f := &File{Path: path, Take: func(content []byte) error {
		select {
		case taken <- string(content):
		case <-ctx.Done():
		}
		return nil
	}}
	ended := make(chan struct{})
	go func() { defer close(ended); Watch(ctx, f) }()
	for _, text := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.Eventually(t, func() bool { return <-taken == text }, testserver.Patience, time.Millisecond)
	}
	cancel()
	<-ended
}
