// Package auth decides who a daemon is: it verifies access tokens and says what
// their scopes allow. It has no clock of its own, logs nothing, and puts no token
// or secret into any error; of files it reads those with public keys, when it is
// asked to. Package keyring keeps the keys up to date. The edge uses it for
// WebSocket and HTTP.
package auth

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says which tokens are accepted.
type Config struct {
	DaemonJWTSecret         settings.Secret   `name:"daemon-jwt-secret" unless:"there are public keys: JWT_PUBLIC_KEY_FILE, JWT_JWKS_FILE or JWT_JWKS_URL" help:"Secret that daemons' access tokens are signed with (HS256); at least 32 bytes. An edge starts without it only where it has public keys. Its file is read again when it changes." group:"Authentication"`
	DaemonJWTSecretPrevious []settings.Secret `name:"daemon-jwt-secret-previous" help:"Secrets whose tokens are still accepted while the secret is being changed." group:"Authentication"`
	JWTPublicKeyFile        string            `name:"jwt-public-key-file" help:"File with the public keys (PEM; also certificates) that tokens may be signed with: RSA (RS256), P-256 (ES256) and Ed25519 (EdDSA). Read again when it changes." group:"Authentication"`
	JWTJWKSFile             string            `name:"jwt-jwks-file" help:"File with such keys as a JSON Web Key Set. Read again when it changes." group:"Authentication"`
	JWTJWKSURL              settings.URL      `name:"jwt-jwks-url" help:"https:// address of such a JSON Web Key Set. While it cannot be read the last good one stays in force." group:"Authentication"`
	JWTJWKSRefresh          time.Duration     `name:"jwt-jwks-refresh" help:"How often JWT_JWKS_URL is read; also as soon as a token names a key that is not known, at most every 10 s." default:"5m" min:"1s" group:"Authentication"`
	JWTIssuer               string            `name:"jwt-issuer" help:"Issuer (iss) that a token must name if it names one; empty: any." default:"neolith-platform" group:"Authentication"`
	JWTAudience             string            `name:"jwt-audience" help:"Audience (aud) that a token must name if it names one; empty: any." default:"neolith-api" group:"Authentication"`
	JWTStrict               bool              `name:"jwt-strict" help:"Refuse tokens without issuer or audience. The tokens of Neolith's login route have neither." group:"Authentication"`
	JWTMaxLifetime          time.Duration     `name:"jwt-max-lifetime" help:"Longest life of a token, from its iat (without one: from now) to its exp; longer ones are refused. 0: any." default:"0s" min:"0s" group:"Authentication"`
	JWTBindDaemonID         bool              `name:"jwt-bind-daemon-id" help:"Refuse a daemon whose id is not the one in its token." default:"true" group:"Authentication"`
	ScopesStrict            bool              `name:"scopes-strict" help:"Take an empty or absent list of scopes as no scope; else it is unrestricted, as Neolith's login route needs. And refuse types of events whose scope is not known to those without the scope *; else these take none." group:"Authentication"`
	AllowInsecureSecret     bool              `name:"allow-insecure-secret" help:"Accept known weak and short secrets, and JWT_JWKS_URL without TLS. For development only: anybody can forge tokens." group:"Authentication"`

	// Files are where the secrets have come from.
	Files settings.Files `kong:"-"`
}

// PublicKeys reports whether tokens may be signed with others than the secrets.
func (c Config) PublicKeys() bool {
	return c.JWTPublicKeyFile != "" || c.JWTJWKSFile != "" || c.JWTJWKSURL != ""
}

// Secrets are those of the configuration, the present one first.
func (c Config) Secrets() []settings.Secret {
	if c.DaemonJWTSecret == "" {
		return nil
	}
	return append([]settings.Secret{c.DaemonJWTSecret}, c.DaemonJWTSecretPrevious...)
}

// minSecretBytes is the output size of SHA-256: a shorter key is the weakest
// part of HS256 and can be searched offline from any one token.
const minSecretBytes = 32

// weakSecrets stand in published examples, so anybody may know them.
var weakSecrets = []settings.Secret{
	"daemon-secret-change-in-production",
	"your-super-secret-jwt-key-change-in-production",
}

// Validate reports secrets that would let others forge tokens, and a strict
// mode with nothing to be strict about.
func (c Config) Validate(report func(setting, problem string)) {
	c.validateSecrets(report)
	c.validateKeys(report)
	if c.JWTStrict && c.JWTIssuer == "" {
		report("JWT_ISSUER", "expected the issuer to insist on, because JWT_STRICT is set")
	}
	if c.JWTStrict && c.JWTAudience == "" {
		report("JWT_AUDIENCE", "expected the audience to insist on, because JWT_STRICT is set")
	}
}

// CheckSecrets returns what is wrong with the secrets alone.
func (c Config) CheckSecrets() (err error) {
	c.validateSecrets(func(setting, problem string) {
		err = errors.Join(err, fmt.Errorf("%s: %s", setting, problem))
	})
	return err
}

func (c Config) validateSecrets(report func(setting, problem string)) {
	if c.DaemonJWTSecret != "" || !c.PublicKeys() {
		if problem := c.weakness(c.DaemonJWTSecret); problem != "" {
			report("DAEMON_JWT_SECRET", problem)
		}
	}
	if c.DaemonJWTSecret == "" && len(c.DaemonJWTSecretPrevious) > 0 {
		report("DAEMON_JWT_SECRET_PREVIOUS", "expected none without DAEMON_JWT_SECRET")
	}
	for i, secret := range c.DaemonJWTSecretPrevious {
		if problem := c.weakness(secret); problem != "" {
			report("DAEMON_JWT_SECRET_PREVIOUS", fmt.Sprintf("entry %d: %s", i+1, problem))
		}
	}
}

// validateKeys reports files and an address that no keys can come from.
func (c Config) validateKeys(report func(setting, problem string)) {
	if _, err := c.FileKeys(); err != nil {
		report(err.setting, "expected a file with public keys: "+err.problem)
	}
	if c.JWTJWKSURL == "" {
		return
	}
	address, err := url.Parse(string(c.JWTJWKSURL))
	switch {
	case err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != "http":
		report("JWT_JWKS_URL", "expected https://host/path")
	case address.Scheme == "http" && !c.AllowInsecureSecret:
		report("JWT_JWKS_URL", "expected https://: whoever can change what is read there can be any daemon")
	}
}

// KeyFileError says which file public keys cannot be read from, and why.
type KeyFileError struct{ setting, problem string }

// Error names the setting and the problem.
func (e *KeyFileError) Error() string { return e.setting + ": " + e.problem }

// FileKeys reads the public keys that are in files.
func (c Config) FileKeys() ([]PublicKey, *KeyFileError) {
	var keys []PublicKey
	for _, source := range []struct {
		setting, path string
		parse         func([]byte) ([]PublicKey, error)
	}{
		{"JWT_PUBLIC_KEY_FILE", c.JWTPublicKeyFile, ParsePEM},
		{"JWT_JWKS_FILE", c.JWTJWKSFile, func(data []byte) ([]PublicKey, error) {
			keys, _, err := ParseJWKS(data)
			return keys, err
		}},
	} {
		if source.path == "" {
			continue
		}
		data, err := os.ReadFile(source.path)
		if err != nil {
			return nil, &KeyFileError{source.setting, err.Error()}
		}
		found, err := source.parse(settings.WithoutMark(data))
		if err != nil {
			return nil, &KeyFileError{source.setting, source.path + " " + err.Error()}
		}
		keys = append(keys, found...)
	}
	return keys, nil
}

// weakness says what is expected instead of a secret that can be guessed, or
// "". The empty secret is refused even where insecure ones are allowed: it is
// never meant.
func (c Config) weakness(secret settings.Secret) string {
	switch {
	case secret == "":
		return "expected a secret of at least 32 random bytes, or public keys (JWT_PUBLIC_KEY_FILE, JWT_JWKS_FILE, JWT_JWKS_URL)"
	case c.AllowInsecureSecret:
		return ""
	case slices.Contains(weakSecrets, secret):
		return "expected a secret of your own, not one from published examples"
	case len(secret) < minSecretBytes:
		return "expected at least 32 bytes"
	}
	return ""
}
