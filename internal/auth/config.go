// Package auth decides who a daemon is: it verifies access tokens and says what
// their scopes allow. It is pure: no I/O, no clock of its own, no logging, and
// no token or secret in any error. The edge uses it for WebSocket and HTTP.
package auth

import (
	"fmt"
	"slices"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says which tokens are accepted.
type Config struct {
	DaemonJWTSecret         settings.Secret   `name:"daemon-jwt-secret" help:"Secret that daemons' access tokens are signed with (HS256); at least 32 bytes. An edge does not start without it." group:"Authentication"`
	DaemonJWTSecretPrevious []settings.Secret `name:"daemon-jwt-secret-previous" help:"Secrets whose tokens are still accepted while the secret is being changed." group:"Authentication"`
	JWTIssuer               string            `name:"jwt-issuer" help:"Issuer (iss) that a token must name if it names one; empty: any." default:"neolith-platform" group:"Authentication"`
	JWTAudience             string            `name:"jwt-audience" help:"Audience (aud) that a token must name if it names one; empty: any." default:"neolith-api" group:"Authentication"`
	JWTStrict               bool              `name:"jwt-strict" help:"Refuse tokens without issuer or audience. The tokens of Neolith's login route have neither." group:"Authentication"`
	JWTBindDaemonID         bool              `name:"jwt-bind-daemon-id" help:"Refuse a daemon whose id is not the one in its token." default:"true" group:"Authentication"`
	ScopesStrict            bool              `name:"scopes-strict" help:"Take an empty or absent list of scopes as no scope; else it is unrestricted, as Neolith's login route needs." group:"Authentication"`
	AllowInsecureSecret     bool              `name:"allow-insecure-secret" help:"Accept known weak and short secrets. For development only: anybody can forge tokens." group:"Authentication"`
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
	if problem := c.weakness(c.DaemonJWTSecret); problem != "" {
		report("DAEMON_JWT_SECRET", problem)
	}
	for i, secret := range c.DaemonJWTSecretPrevious {
		if problem := c.weakness(secret); problem != "" {
			report("DAEMON_JWT_SECRET_PREVIOUS", fmt.Sprintf("entry %d: %s", i+1, problem))
		}
	}
	if c.JWTStrict && c.JWTIssuer == "" {
		report("JWT_ISSUER", "expected the issuer to insist on, because JWT_STRICT is set")
	}
	if c.JWTStrict && c.JWTAudience == "" {
		report("JWT_AUDIENCE", "expected the audience to insist on, because JWT_STRICT is set")
	}
}

// weakness says what is expected instead of a secret that can be guessed, or
// "". The empty secret is refused even where insecure ones are allowed: it is
// never meant.
func (c Config) weakness(secret settings.Secret) string {
	switch {
	case secret == "":
		return "expected a secret of at least 32 random bytes"
	case c.AllowInsecureSecret:
		return ""
	case slices.Contains(weakSecrets, secret):
		return "expected a secret of your own, not one from published examples"
	case len(secret) < minSecretBytes:
		return "expected at least 32 bytes"
	}
	return ""
}
