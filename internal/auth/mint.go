package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Grant is what a token made by Mint says. The zero IssuedAt, Issuer, Audience,
// TokenID and AllowedCIDRs are left out.
type Grant struct {
	Orchestrator protocol.OrchestratorID
	Daemon       protocol.DaemonID
	Scopes       []string
	IssuedAt     time.Time
	ExpiresAt    time.Time
	Issuer       string
	Audience     string
	TokenID      string
	Organization string
	AllowedCIDRs []string
}

// Mint makes an access token of the shape of Neolith's login route. In
// production Neolith is the only issuer; this serves demos, benchmarks and
// tests, which have no Neolith.
func Mint(secret settings.Secret, g Grant) (string, error) {
	if secret == "" {
		return "", errors.New("mint access token: the secret is empty")
	}
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{Issuer: g.Issuer, ID: g.TokenID},
		ExpiresAt:        &instant{at: g.ExpiresAt},
		OrchestratorID:   string(g.Orchestrator),
		DaemonID:         string(g.Daemon),
		Scopes:           g.Scopes,
		Type:             accessToken,
		OrganizationID:   g.Organization,
		AllowedCIDRs:     g.AllowedCIDRs,
	}
	if !g.IssuedAt.IsZero() {
		c.IssuedAt = &instant{at: g.IssuedAt}
	}
	if g.Audience != "" {
		c.Audience = jwt.ClaimStrings{g.Audience}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("mint access token: %w", err)
	}
	return token, nil
}
