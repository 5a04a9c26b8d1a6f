// Package certificate is the TLS of a listener: the certificate that it shows,
// and the authorities that must have signed those of its clients, if they are to
// show one. All of it comes from files that are read again when they change.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

// Config names the files. The zero value is no TLS.
type Config struct {
	TLSCertFile     string `name:"tls-cert-file" help:"File with the certificate chain (PEM), read again when it changes; with the file of its key clients connect by TLS."`
	TLSKeyFile      string `name:"tls-key-file" help:"File with the key of the certificate."`
	TLSClientCAFile string `name:"tls-client-ca-file" help:"File with the certificates (PEM) of authorities, read again when it changes: clients must show a certificate that one of these has signed, beside what they authenticate with. Only where TLS ends here, and not at a load balancer."`
}

// Enabled reports whether there is TLS.
func (c Config) Enabled() bool { return c.TLSCertFile != "" }

// Check reports what is wrong with the settings, whose names begin with prefix.
func (c Config) Check(prefix string, report func(setting, problem string)) {
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		report(prefix+"TLS_CERT_FILE", "expected together with "+prefix+"TLS_KEY_FILE, or neither")
		return
	}
	if c.TLSClientCAFile != "" {
		if _, err := ReadPool(c.TLSClientCAFile); err != nil {
			report(prefix+"TLS_CLIENT_CA_FILE", fmt.Sprintf("expected a file with certificates (PEM): %v", err))
		}
		if !c.Enabled() {
			report(prefix+"TLS_CLIENT_CA_FILE", "expected none, since without "+prefix+"TLS_CERT_FILE there is no TLS")
		}
	}
	if c.Enabled() {
		if _, err := tls.LoadX509KeyPair(c.TLSCertFile, c.TLSKeyFile); err != nil {
			report(prefix+"TLS_CERT_FILE", fmt.Sprintf("expected files with a certificate and its key (PEM): %v", err))
		}
	}
}

// ReadPool returns the authorities of a file.
func ReadPool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("it holds no certificate")
	}
	return pool, nil
}

// checkInterval is how often the files are looked at, at most.
const checkInterval = time.Second

// Source reads the files. A change that cannot be read leaves what was read
// before in force. Its methods may be called at the same time.
type Source struct {
	cfg    Config
	logger *slog.Logger

	mu      sync.Mutex
	current files        // guarded by mu
	version [3]time.Time // modification times of the files that current is from; guarded by mu
	checked time.Time    // guarded by mu
}

// files is what stands in them.
type files struct {
	pair    tls.Certificate
	clients *x509.CertPool // nil: clients need no certificate
}

// New reads the files for the first time. cfg is enabled.
func New(cfg Config, logger *slog.Logger) (*Source, error) {
	s := &Source{cfg: cfg, logger: logger}
	s.version = s.versionOnDisk()
	var err error
	s.current, err = s.load()
	return s, err
}

// suites are those of TLS 1.2 that authenticate what they encrypt; all of TLS 1.3 do.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// Listener returns l with TLS. HTTP/2 is left out: a WebSocket upgrade is
// HTTP/1.1.
func (s *Source) Listener(l net.Listener) net.Listener { return tls.NewListener(l, s.config()) }

func (s *Source) config() *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: suites, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair := s.files().pair
			return &pair, nil
		},
	}
	if s.cfg.TLSClientCAFile == "" {
		return config
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	// A session that is resumed would have been judged by former authorities.
	config.SessionTicketsDisabled = true
	own := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := own.Clone()
		current.ClientCAs = s.files().clients
		return current, nil
	}
	return config
}

// Observe registers when the certificate in force expires.
func (s *Source) Observe(reg prometheus.Registerer) {
	metric.GaugeFunc(reg, "gateway_tls_certificate_not_after_timestamp_seconds",
		"When the certificate that clients are shown expires, in Unix time.",
		nil, func() float64 { return float64(s.files().pair.Leaf.NotAfter.Unix()) })
}

// files returns what is in force, read again if that is due.
func (s *Source) files() files {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.checked) < checkInterval {
		return s.current
	}
	s.checked = now
	version := s.versionOnDisk()
	if version == s.version {
		return s.current
	}
	loaded, err := s.load()
	if err != nil {
		s.logger.Error("changed TLS files not usable, the old ones stay in force", "error", err)
		return s.current
	}
	s.current, s.version = loaded, version
	s.logger.Info("TLS certificate read again", "file", s.cfg.TLSCertFile)
	return s.current
}

func (s *Source) versionOnDisk() (version [3]time.Time) {
	for i, name := range []string{s.cfg.TLSCertFile, s.cfg.TLSKeyFile, s.cfg.TLSClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			version[i] = info.ModTime()
		}
	}
	return version
}

func (s *Source) load() (f files, err error) {
	if f.pair, err = tls.LoadX509KeyPair(s.cfg.TLSCertFile, s.cfg.TLSKeyFile); err != nil {
		return f, fmt.Errorf("load TLS certificate %s: %w", s.cfg.TLSCertFile, err)
	}
	if s.cfg.TLSClientCAFile != "" {
		if f.clients, err = ReadPool(s.cfg.TLSClientCAFile); err != nil {
			return f, fmt.Errorf("load authorities of clients %s: %w", s.cfg.TLSClientCAFile, err)
		}
	}
	return f, nil
}
