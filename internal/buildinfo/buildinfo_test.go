package buildinfo_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
)

func TestGetNamesEveryPart(t *testing.T) {
	t.Parallel()
	info := buildinfo.Get()
	require.NotEmpty(t, info.Version)
	require.NotEmpty(t, info.Revision)
	require.Equal(t, runtime.Version(), info.GoVersion)
	require.Contains(t, info.String(), info.Version)
	require.Contains(t, info.String(), info.Revision)
}
