package postgres_test

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

func asUser(t *testing.T, text, name string) string {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	u.User = url.User(name)
	return u.String()
}

func TestURLsThatCanBeUsed(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain":            "postgres://user:secret@db:5432/neolith",
		"other scheme":     "postgresql://user:secret@db/neolith?sslmode=require",
		"several servers":  "postgres://user:secret@one:5432,two:5433/neolith?target_session_attrs=read-write",
		"Prisma's options": "postgresql://user:secret@db/neolith?schema=app&pgbouncer=true&connection_limit=5&pool_timeout=2&sslaccept=strict",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := settings.Default[postgres.Config]()
			cfg.DatabaseURL = settings.URL(text)
			require.NoError(t, settings.Validate(&cfg))
		})
	}
}

func TestAURLThatCannotBeUsedIsRefusedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no scheme":       "user:secret@db/neolith",
		"another scheme":  "mysql://user:secret@db/neolith",
		"bad port":        "postgres://user:secret@db:port/neolith",
		"bad sslmode":     "postgres://user:secret@db/neolith?sslmode=sometimes",
		"Prisma's PKCS12": "postgres://user:secret@db/neolith?sslidentity=client.p12",
		"bad escape":      "postgres://user:secret@db/neolith?application_name=%zz",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := settings.Default[postgres.Config]()
			cfg.DatabaseURL = settings.URL(text)
			err := settings.Validate(&cfg)
			require.ErrorContains(t, err, "DATABASE_URL")
			require.NotContains(t, err.Error(), "secret")
			_, err = postgres.Open(cfg, "test", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			require.Error(t, err)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestNeolithsTablesAreInTheSchemaThatTheURLNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://db/neolith":                 `"public"."vps"`,
		"postgres://db/neolith?schema=":         `"public"."vps"`,
		"postgres://db/neolith?schema=my%22app": `"my""app"."vps"`,
	} {
		db, _ := openOnly(t, text, slog.DiscardHandler)
		require.Equal(t, want, db.Neolith("vps"))
	}
}

// Whoever names an authority wants the server to be the right one; without a mode
// the client would take plain text as well.
func TestAnAuthorityInTheURLMeansThatTheServerIsVerified(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, testserver.NewCertificate(t, 1).Certificate, 0o600))
	for query, verified := range map[string]bool{
		"sslrootcert=" + ca:                                 true,
		"sslcert=" + ca:                                     true, // Prisma's name for it
		"sslcert=" + ca + "&sslaccept=strict":               true,
		"sslcert=" + ca + "&sslaccept=accept_invalid_certs": false,
		"":               false,
		"sslmode=prefer": false,
	} {
		db, _ := openOnly(t, "postgres://db.example/neolith?"+query, slog.DiscardHandler)
		config := db.Pool.Config().ConnConfig
		full := config.TLSConfig != nil && !config.TLSConfig.InsecureSkipVerify && config.TLSConfig.ServerName == "db.example"
		require.Equal(t, verified, full, query)
		if verified {
			for _, other := range config.Fallbacks {
				require.NotNil(t, other.TLSConfig, "never as plain text")
			}
		}
	}
}

func TestWithoutAURLThereIsNoDatabase(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[postgres.Config]()
	require.NoError(t, settings.Validate(&cfg))
	require.False(t, cfg.Enabled())
}
