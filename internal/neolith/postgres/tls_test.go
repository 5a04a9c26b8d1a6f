package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// files writes a certificate that is its own authority, and its key.
func files(t *testing.T, serial int64) (c testserver.Certificate, certificate, key string) {
	t.Helper()
	c = testserver.NewCertificate(t, serial)
	certificate, key = c.Files(t)
	return c, certificate, key
}

func TestPostgreSQLIsKnownByItsCertificateAndKnowsUsByOurs(t *testing.T) {
	t.Parallel()
	theirs, ca, _ := files(t, 1)
	ours, certificate, key := files(t, 2)
	_, otherCA, otherKey := files(t, 3)
	server := testserver.NewSecurePostgres(t, theirs, ours.Certificate)
	const right, wrong = "127.0.0.1", "localhost"
	for name, test := range map[string]struct {
		user, host, query string
		files             postgres.Config
		problem           string // "": it is connected
	}{
		"its authority":                {testserver.AnyClient, right, "", postgres.Config{DatabaseTLSCA: ca}, ""},
		"its authority in the URL":     {testserver.AnyClient, right, "?sslrootcert=" + ca, postgres.Config{}, ""},
		"another authority":            {testserver.AnyClient, right, "", postgres.Config{DatabaseTLSCA: otherCA}, "unknown authority"},
		"another name":                 {testserver.AnyClient, wrong, "", postgres.Config{DatabaseTLSCA: ca}, "localhost"},
		"any name, if that is wanted":  {testserver.AnyClient, wrong, "?sslmode=verify-ca", postgres.Config{DatabaseTLSCA: ca}, ""},
		"no certificate of ours":       {testserver.CertifiedClient, right, "", postgres.Config{DatabaseTLSCA: ca}, "certificate"},
		"a certificate of ours":        {testserver.CertifiedClient, right, "", postgres.Config{DatabaseTLSCA: ca, DatabaseTLSCert: certificate, DatabaseTLSKey: key}, ""},
		"the same in the URL":          {testserver.CertifiedClient, right, "?sslrootcert=" + ca + "&sslcert=" + certificate + "&sslkey=" + key, postgres.Config{}, ""},
		"a certificate of a stranger":  {testserver.CertifiedClient, right, "", postgres.Config{DatabaseTLSCA: ca, DatabaseTLSCert: otherCA, DatabaseTLSKey: otherKey}, "unknown"},
		"no TLS where it is asked for": {testserver.AnyClient, right, "?sslmode=disable", postgres.Config{}, "no pg_hba.conf entry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := settings.Default[postgres.Config]()
			cfg.DatabaseURL = settings.URL(server.URL(test.user, test.host) + test.query)
			cfg.DatabaseTLSCA, cfg.DatabaseTLSCert, cfg.DatabaseTLSKey = test.files.DatabaseTLSCA, test.files.DatabaseTLSCert, test.files.DatabaseTLSKey
			require.NoError(t, settings.Validate(&cfg))
			db := run(t, cfg)
			require.Eventually(t, func() bool {
				ok, detail := db.Check()
				if test.problem == "" {
					return ok
				}
				return !ok && strings.Contains(detail, test.problem)
			}, waitTime, 10*time.Millisecond, test.problem)
		})
	}
}

// run opens a database that runs for as long as the test.
func run(t *testing.T, cfg postgres.Config) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(cfg, "test", slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, db.Close(context.Background()))
	})
	return db
}

func TestFilesOfPostgreSQLThatCannotBeUsedAreReported(t *testing.T) {
	t.Parallel()
	_, certificate, key := files(t, 1)
	for problem, cfg := range map[string]postgres.Config{
		"DATABASE_TLS_KEY":                     {DatabaseTLSCert: certificate},
		"DATABASE_TLS_CA":                      {DatabaseTLSCA: key},
		"no such file":                         {DatabaseTLSCA: certificate + "x"},
		"files with a certificate and its key": {DatabaseTLSCert: key, DatabaseTLSKey: certificate},
	} {
		cfg.DatabaseURL, cfg.DatabaseMaxConns = "postgres://db/neolith", 1
		require.ErrorContains(t, settings.Validate(&cfg), problem)
	}
}

// A password that others on the way may read is told of once, when a node starts.
func TestAPasswordForPostgreSQLInPlainTextIsNoticed(t *testing.T) {
	t.Parallel()
	_, ca, _ := files(t, 1)
	for url, want := range map[string]bool{
		"postgres://u:pw@db.example/neolith":                           true, // TLS, if the server has it
		"postgres://u:pw@db.example/neolith?sslmode=disable":           true,
		"postgres://u:pw@127.0.0.1,db.example/neolith?sslmode=disable": true,
		"postgres://u:pw@db.example/neolith?sslmode=require":           false,
		"postgres://u:pw@db.example/neolith?sslrootcert=" + ca:         false,
		"postgres://u@db.example/neolith":                              false,
		"postgres://u:pw@127.0.0.1/neolith":                            false,
		"postgres://u:pw@[::1]/neolith?sslmode=disable":                false,
		"postgres://u:pw@localhost/neolith":                            false,
		"postgres://u:pw@/neolith?host=/run/postgresql":                false,
	} {
		var log bytes.Buffer
		openOnly(t, url, slog.NewTextHandler(&log, nil))
		require.Equal(t, want, strings.Contains(log.String(), "may travel as plain text"), url)
		require.NotContains(t, log.String(), "pw")
	}
}
