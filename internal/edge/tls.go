package edge

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certCheckInterval is how often the files are looked at, at most.
const certCheckInterval = time.Second

// certificate is read from files again when they change, so that a renewed one
// needs no restart. A change that cannot be read leaves the old one in force.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	version [2]time.Time // modification times of the files that current is from
	checked time.Time
}

func newCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	if err := c.loadLocked(c.versionOnDisk()); err != nil {
		return nil, err
	}
	return c, nil
}

// suites are those of TLS 1.2 that authenticate what they encrypt; all of TLS 1.3 do.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// config returns the TLS configuration of the listener. HTTP/2 is left out: a
// WebSocket upgrade is HTTP/1.1.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites, NextProtos: []string{"http/1.1"}, GetCertificate: c.get}
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certCheckInterval {
		c.checked = now
		if version := c.versionOnDisk(); version != c.version {
			if err := c.loadLocked(version); err != nil {
				c.logger.Error("changed TLS certificate not usable, the old one stays in force", "error", err)
			} else {
				c.logger.Info("TLS certificate read again", "file", c.certFile)
			}
		}
	}
	return c.current, nil
}

func (c *certificate) versionOnDisk() (version [2]time.Time) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			version[i] = info.ModTime()
		}
	}
	return version
}

// expiry is when the certificate in force expires, once it has been read again
// if that is due: nobody may have connected since it was renewed.
func (c *certificate) expiry() time.Time {
	current, _ := c.get(nil) // has no error
	return current.Leaf.NotAfter
}

// loadLocked reads the files; mu is held, or the certificate not yet shared.
func (c *certificate) loadLocked(version [2]time.Time) error {
	loaded, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load TLS certificate %s: %w", c.certFile, err)
	}
	c.current, c.version = &loaded, version
	return nil
}
