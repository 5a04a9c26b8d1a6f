package devcluster

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func TestADatabaseThatIsGivenSaysWhoIsMeant(t *testing.T) {
	t.Parallel()
	database := testserver.Postgres(t)
	database.NeolithTables(t)
	database.AddOrchestrators(t, testserver.Orchestrator{ID: string(handOrchestrator), User: "your-user"})
	cfg := config(t, t.TempDir())
	cfg.Postgres.DatabaseURL = settings.URL(database.URL())
	c, _, _ := start(t, cfg)
	publish(t, c, strings.Replace(hello, `"you"`, `"your-user"`, 1))
	require.Equal(t, "hello-1", await(t, c).EventID)
}
