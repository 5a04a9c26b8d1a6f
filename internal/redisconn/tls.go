package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/certificate"
	"github.com/neolith/daemon-gateway/internal/loopback"
)

// validateTLS reports files that cannot be used, or that nothing would be done
// with.
func (c Config) validateTLS(base *redis.Options, report func(setting, problem string)) {
	if (c.RedisTLSCert == "") != (c.RedisTLSKey == "") {
		report("REDIS_TLS_CERT", "expected together with REDIS_TLS_KEY, or neither")
		return
	}
	if base.TLSConfig == nil {
		for setting, given := range map[string]string{"REDIS_TLS_CA": c.RedisTLSCA, "REDIS_TLS_CERT": c.RedisTLSCert, "REDIS_TLS_SERVER_NAME": c.RedisTLSServerName} {
			if given != "" {
				report(setting, "expected none, since REDIS_URL is not rediss://")
			}
		}
		return
	}
	if _, err := c.authorities(); err != nil {
		report("REDIS_TLS_CA", fmt.Sprintf("expected a file with certificates (PEM): %v", err))
	}
	if c.RedisTLSCert != "" {
		if _, err := tls.LoadX509KeyPair(c.RedisTLSCert, c.RedisTLSKey); err != nil {
			report("REDIS_TLS_CERT", fmt.Sprintf("expected files with a certificate and its key (PEM): %v", err))
		}
	}
}

// authorities returns who may sign a server's certificate; nil: those of the system.
func (c Config) authorities() (*x509.CertPool, error) {
	if c.RedisTLSCA == "" {
		return nil, nil
	}
	return certificate.ReadPool(c.RedisTLSCA)
}

// secure has a connection to Redis, or to a Sentinel, use the configured files.
func (c Config) secure(config *tls.Config) (err error) {
	config.MinVersion = tls.VersionTLS12
	if c.RedisTLSServerName != "" {
		config.ServerName = c.RedisTLSServerName
	}
	if config.RootCAs, err = c.authorities(); err != nil {
		return fmt.Errorf("REDIS_TLS_CA: %w", err)
	}
	if c.RedisTLSCert != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.RedisTLSCert, c.RedisTLSKey)
			return &pair, err
		}
	}
	return nil
}

// Exposed reports whether a password travels over a network as plain text.
func (c Config) Exposed() bool {
	base, sentinel, err := c.parse()
	if err != nil || base.TLSConfig != nil || base.Password == "" && sentinel.password == "" {
		return false
	}
	addrs := c.RedisAddrs
	if len(addrs) == 0 && base.Network == "unix" {
		return false
	}
	if len(addrs) == 0 {
		addrs = []string{base.Addr}
	}
	for _, addr := range addrs {
		if host, _, err := net.SplitHostPort(addr); err != nil || !loopback.Is(host) {
			return true
		}
	}
	return false
}
