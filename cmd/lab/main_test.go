package main

import (
	"fmt"
	"os"
	"path"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page shows every scenario as the program lists it, and each names a page
// that is there.
func TestThePageShowsEveryScenario(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/lab.md")
	require.NoError(t, err)
	for _, s := range scenarios() {
		name := path.Base(s.Page)
		require.Contains(t, string(page), fmt.Sprintf("| %s | %s | %s | [%s](%s) |\n", s.Name, s.What, s.Takes, name, name))
		require.FileExists(t, "../../"+s.Page)
	}
}
