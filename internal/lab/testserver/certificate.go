package testserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CertificateName is the name that certificates are for besides their address. Nothing
// resolves it.
const CertificateName = "server.example"

// Certificate is a certificate with its key, as PEM.
type Certificate struct {
	Certificate, Key []byte
	// Pool trusts it.
	Pool *x509.CertPool
}

// NewCertificate makes a certificate for 127.0.0.1 and CertificateName that lasts for an
// hour and is signed by itself.
func NewCertificate(t testing.TB, serial int64) Certificate {
	t.Helper()
	return NewCertificateFor(t, serial, time.Hour)
}

// NewCertificateFor is NewCertificate with another end.
func NewCertificateFor(t testing.TB, serial int64, lasts time.Duration) Certificate {
	t.Helper()
	c, err := makeCertificate(serial, lasts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func makeCertificate(serial int64, lasts time.Duration) (Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{CertificateName}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Certificate{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Certificate{}, err
	}
	c := Certificate{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		Pool:        x509.NewCertPool(),
	}
	c.Pool.AppendCertsFromPEM(c.Certificate)
	return c, nil
}

// Files writes the certificate and its key into files, as settings name them.
func (c Certificate) Files(t testing.TB) (certificate, key string) {
	t.Helper()
	certificate, key, err := c.write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func (c Certificate) write(dir string) (certificate, key string, err error) {
	certificate, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	return certificate, key, errors.Join(os.WriteFile(certificate, c.Certificate, 0o600), os.WriteFile(key, c.Key, 0o600))
}

// WriteCertificate makes a certificate as NewCertificate does, and writes it and
// its key into files of a directory, for programs that are no tests.
func WriteCertificate(dir string) (certificate, key string, err error) {
	c, err := makeCertificate(1, time.Hour)
	if err != nil {
		return "", "", err
	}
	return c.write(dir)
}

// PublicPEM returns the public halves of keys as PEM.
func PublicPEM(t testing.TB, keys ...crypto.Signer) (text []byte) {
	t.Helper()
	for _, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return text
}
