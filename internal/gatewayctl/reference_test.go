package gatewayctl

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the reference into docs/gatewayctl.md")

// What the page says of the commands is what they say themselves; `make docs`
// writes it.
func TestThePageHasTheReference(t *testing.T) {
	t.Parallel()
	const page, heading = "../../docs/gatewayctl.md", "## Reference\n\n"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, after, found := strings.Cut(string(text), heading)
	require.True(t, found)
	var reference strings.Builder
	require.NoError(t, Reference(&reference))
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+heading+reference.String()), 0o644))
		return
	}
	require.Equal(t, reference.String(), after, "run make docs")
}
