package testserver

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// SecurePostgres is a server that is spoken to by TLS.
type SecurePostgres struct {
	cluster *postgresCluster
}

// The users of a SecurePostgres. Neither has a password.
const (
	// AnyClient connects by TLS.
	AnyClient = "anybody"
	// CertifiedClient must show a certificate of the authority, too.
	CertifiedClient = "certified"
)

// hostBasedAuthentication are the rules for these, and for the tests' own user.
const hostBasedAuthentication = `
hostssl   all ` + AnyClient + ` all trust
hostssl   all ` + CertifiedClient + ` all trust clientcert=verify-ca
hostnossl all ` + postgresUser + ` all trust
`

// NewSecurePostgres starts a server for this test alone, with a certificate, and
// an authority that signs those of its clients.
func NewSecurePostgres(t testing.TB, server Certificate, clients []byte) *SecurePostgres {
	t.Helper()
	cluster, err := preparedPostgresCluster(func(c *postgresCluster) error {
		c.options = append(c.options, "ssl=on")
		for _, f := range []struct {
			option  string
			content []byte
		}{
			{"ssl_cert_file", server.Certificate}, {"ssl_key_file", server.Key}, {"ssl_ca_file", clients},
			{"hba_file", []byte(hostBasedAuthentication)},
		} {
			path := filepath.Join(c.dir, f.option)
			if err := os.WriteFile(path, f.content, 0o600); err != nil {
				return err
			}
			if err := c.install.own(path); err != nil {
				return err
			}
			c.options = append(c.options, f.option+"="+path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.remove)
	for _, user := range []string{AnyClient, CertifiedClient} {
		if err := cluster.execute("create role " + user + " login superuser"); err != nil {
			t.Fatal(err)
		}
	}
	return &SecurePostgres{cluster}
}

// URL is the postgres:// URL of the server's database for a user, by the name of
// this machine that is given, without a word about TLS.
func (s *SecurePostgres) URL(user, host string) string {
	return fmt.Sprintf("postgres://%s@%s:%d/%s", user, host, s.cluster.port, maintenanceDatabase)
}
