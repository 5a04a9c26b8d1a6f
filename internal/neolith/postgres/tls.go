package postgres

import (
	"crypto/tls"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/neolith/daemon-gateway/internal/certificate"
	"github.com/neolith/daemon-gateway/internal/loopback"
)

// validateTLS reports files that cannot be used; false if there are any.
func (c Config) validateTLS(report func(setting, problem string)) bool {
	if (c.DatabaseTLSCert == "") != (c.DatabaseTLSKey == "") {
		report("DATABASE_TLS_CERT", "expected together with DATABASE_TLS_KEY, or neither")
		return false
	}
	good := true
	if c.DatabaseTLSCA != "" {
		if _, err := certificate.ReadPool(c.DatabaseTLSCA); err != nil {
			report("DATABASE_TLS_CA", fmt.Sprintf("expected a file with certificates (PEM): %v", err))
			good = false
		}
	}
	if c.DatabaseTLSCert != "" {
		if _, err := tls.LoadX509KeyPair(c.DatabaseTLSCert, c.DatabaseTLSKey); err != nil {
			report("DATABASE_TLS_CERT", fmt.Sprintf("expected files with a certificate and its key (PEM): %v", err))
			good = false
		}
	}
	return good
}

// tlsOptions are the files as options of a URL.
func (c Config) tlsOptions() map[string]string {
	options := map[string]string{}
	for name, file := range map[string]string{"sslrootcert": c.DatabaseTLSCA, "sslcert": c.DatabaseTLSCert, "sslkey": c.DatabaseTLSKey} {
		if file != "" {
			options[name] = file
		}
	}
	return options
}

// exposed reports whether a password may travel over a network as plain text:
// without a word about TLS in the URL the client speaks it only where the server
// does.
func exposed(pool *pgxpool.Config) bool {
	config := pool.ConnConfig
	if config.Password == "" {
		return false
	}
	if config.TLSConfig == nil && isRemote(config.Host) {
		return true
	}
	for _, other := range config.Fallbacks {
		if other.TLSConfig == nil && isRemote(other.Host) {
			return true
		}
	}
	return false
}

// isRemote reports whether a network leads to a host; a path is a socket here.
func isRemote(host string) bool { return len(host) > 0 && host[0] != '/' && !loopback.Is(host) }
