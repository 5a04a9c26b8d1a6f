package gatewayctl

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// The page says of each command what it prints with -o json, but for those that print
// lines, or nothing but a word.
func TestEachResultIsDocumented(t *testing.T) {
	t.Parallel()
	without := []string{"idle", "token", "connect", "trace", "backup", "restore", "probe"}
	var walk func(c *cobra.Command, path string)
	found := 0
	walk = func(c *cobra.Command, path string) {
		for _, sub := range c.Commands() {
			name := strings.TrimSpace(path + " " + sub.Name())
			if sub.HasSubCommands() {
				walk(sub, name)
				continue
			}
			_, documented := results[name]
			require.NotEqual(t, slices.Contains(without, name), documented, name)
			if documented {
				found++
			}
		}
	}
	walk(Command(), "")
	require.Len(t, results, found, "each is a command's")
}

func TestAShapeHasNamesAndTypes(t *testing.T) {
	t.Parallel()
	type inner struct {
		Name string `json:"name"`
	}
	type outer struct {
		inner
		At     time.Time      `json:"at,omitzero"`
		Counts map[string]int `json:"counts"`
		List   []inner        `json:"list,omitempty"`
		Body   []byte         `json:"body"`
		hidden int
	}
	var b strings.Builder
	writeShape(&b, outer{hidden: 1})
	require.Equal(t, "{\n  name: text,\n  at?: time,\n  counts: {name: number},\n  list?: [{name: text}],\n  body: base64\n}\n", b.String())
}
