package compose_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// With a database edges let in only whose orchestrator it has, and bridges keep
// the events of others back, so the Compose file's has that of the probe.
func TestTheProbePassesWithTheComposeFilesDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	database := testserver.Postgres(t)
	for _, file := range []string{"../../internal/neolith/schema.sql", "orchestrators.sql"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		database.Execute(t, string(text))
	}
	w.database = settings.URL(database.URL())
	w.administer()
	w.start("router", restrictedly)
	w.start("edge", restrictedly)
	w.start("bridge", restrictedly)
	w.delivers()
}
