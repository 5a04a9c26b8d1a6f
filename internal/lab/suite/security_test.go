package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/attack"
)

// Whoever reads in docs/security.md what becomes of an attack finds the test that shows it,
// and what each attack of the lab costs.
func TestThePageOfSecurityNamesTestsThatThereAreAndEachAttack(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "security.md"))
	require.NoError(t, err)
	there := textsOfTests(t)
	named := testOfARow.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(named), 100)
	for _, name := range named {
		require.Contains(t, there, name[1])
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, " | "); len(cells) > 1 {
			rows[strings.TrimPrefix(cells[0], "| ")] = true
		}
	}
	for _, a := range attack.All() {
		require.True(t, rows[a.What], "the attack %s (%s) has no row: make hostile ARGS=\"-attacks %s\"", a.Name, a.What, a.Name)
	}
}
