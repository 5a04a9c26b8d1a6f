package auth

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Leeway is how far this node's clock and the issuer's may disagree.
const Leeway = 30 * time.Second

// MaxTokenBytes is the longest token that is looked at.
const MaxTokenBytes = 16 << 10

// accessToken is the type of a token that opens a session. Refresh tokens are
// signed with the same secret and live for days.
const accessToken = "access"

// Identity is what a verified token says about its bearer.
type Identity struct {
	Orchestrator protocol.OrchestratorID
	Daemon       protocol.DaemonID // empty if the token names none
	Scopes       Scopes
	ExpiresAt    time.Time
	// From is from where the token may be used; nil: anywhere.
	From         []netip.Prefix
	TokenID      string // jti, for revocation; may be empty
	Workspace    string // may be empty
	Organization string // may be empty
	Issuer       string // may be empty
}

// Verifier verifies access tokens. It may be used concurrently.
type Verifier struct {
	cfg  Config
	keys atomic.Pointer[Keys]
}

// New returns a verifier, or a *settings.Error if the configuration would
// accept forged tokens. It has the secrets of the configuration; public keys come
// with Use.
func New(cfg Config) (*Verifier, error) {
	if err := settings.Validate(&cfg); err != nil {
		return nil, err
	}
	v := &Verifier{cfg: cfg}
	v.Use(NewKeys(cfg.Secrets(), nil, cfg.PublicKeys()))
	return v, nil
}

// Use has tokens verified with these keys from now on.
func (v *Verifier) Use(k *Keys) { v.keys.Store(k) }

// claims are those of both token shapes: Neolith's login route names the
// orchestrator in orchestratorId, its integration guide in sub.
type claims struct {
	jwt.RegisteredClaims
	// These hide the times of RegisteredClaims, which overflow unnoticed.
	ExpiresAt      *instant `json:"exp,omitempty"`
	NotBefore      *instant `json:"nbf,omitempty"`
	IssuedAt       *instant `json:"iat,omitempty"`
	OrchestratorID string   `json:"orchestratorId,omitempty"`
	DaemonID       string   `json:"daemonId,omitempty"`
	Scopes         []string `json:"scopes,omitempty"`
	Type           string   `json:"type,omitempty"`
	WorkspaceID    string   `json:"workspaceId,omitempty"`
	OrganizationID string   `json:"organizationId,omitempty"`
	AllowedCIDRs   []string `json:"allowedCidrs,omitempty"`
}

// Verify returns who the bearer of token is, or an *Error. Nothing of the
// payload is believed, or told apart in the answer, before the signature.
func (v *Verifier) Verify(token string, now time.Time) (Identity, error) {
	// Line breaks are skipped by Go's base64, however strict.
	if len(token) > MaxTokenBytes || strings.ContainsAny(token, "\r\n") {
		return Identity{}, refuse(ReasonMalformed)
	}
	keys := v.keys.Load()
	if c, ok := v.scan(token, keys, now); ok {
		return v.identify(&c)
	}
	return v.parse(token, keys, now)
}

// parse is Verify without scan.
func (v *Verifier) parse(token string, keys *Keys, now time.Time) (Identity, error) {
	var c claims
	parsed, err := keys.parse(token, &c)
	if err != nil {
		return Identity{}, err
	}
	if _, critical := parsed.Header["crit"]; critical {
		// RFC 7515, 4.1.11: an extension that must be understood, and is not.
		return Identity{}, refuse(ReasonMalformed)
	}
	if refusal := c.untimely(now, v.cfg.JWTMaxLifetime); refusal != nil {
		return Identity{}, refusal
	}
	return v.identify(&c)
}

// parse reads a token and checks its signature. The library's error goes no
// further, because it may quote the token.
func (k *Keys) parse(token string, c *claims) (*jwt.Token, error) {
	refusal := Reason("")
	parser := jwt.NewParser(
		jwt.WithStrictDecoding(),
		jwt.WithoutClaimsValidation(), // see claims.untimely
	)
	parsed, err := parser.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
		var set jwt.VerificationKeySet
		id, _ := t.Header["kid"].(string)
		if set.Keys, refusal = k.candidates(t.Method.Alg(), id); refusal != "" {
			return nil, &Error{Reason: refusal}
		}
		return set, nil
	})
	switch {
	case err == nil:
		return parsed, nil
	case refusal != "":
		return nil, refuse(refusal)
	case errors.Is(err, jwt.ErrTokenMalformed):
		return nil, refuse(ReasonMalformed)
	case parsed == nil || parsed.Method == nil: // one that the library does not know
		return nil, refuse(ReasonWrongAlgorithm)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, refuse(ReasonBadSignature)
	}
	return nil, refuse(ReasonInvalidClaim)
}

func (v *Verifier) identify(c *claims) (Identity, error) {
	if reason := v.refusal(c); reason != "" {
		return Identity{}, refuse(reason)
	}
	from, err := access.ParseRanges(c.AllowedCIDRs)
	if err != nil || from == nil && c.AllowedCIDRs != nil {
		// Somebody meant to limit the token. An empty list may stand for all or
		// for nothing.
		return Identity{}, refuse(ReasonInvalidClaim)
	}
	if c.Issuer == v.cfg.JWTIssuer {
		c.Issuer = v.cfg.JWTIssuer // thousands of connections keep it
	}
	return Identity{
		Orchestrator: c.orchestrator(),
		Daemon:       protocol.DaemonID(c.DaemonID),
		Scopes:       NewScopes(c.Scopes, v.cfg.ScopesStrict),
		ExpiresAt:    c.ExpiresAt.at,
		From:         from,
		TokenID:      c.ID,
		Workspace:    c.WorkspaceID,
		Organization: c.OrganizationID,
		Issuer:       c.Issuer,
	}, nil
}

// refusal returns why these claims, whose signature and times are right, do
// not open a session, or "".
func (v *Verifier) refusal(c *claims) Reason {
	switch {
	case c.Type != accessToken:
		return ReasonWrongType
	case !v.issuerPasses(c.Issuer):
		return ReasonWrongIssuer
	case !v.audiencePasses(c.Audience):
		return ReasonWrongAudience
	case c.orchestrator() == "":
		return ReasonMissingClaim
	case c.OrchestratorID != "" && c.Subject != "" && c.OrchestratorID != c.Subject:
		// Neither known shape has both. Which of the two the issuer meant
		// cannot be told, and a wrong guess would show another's events.
		return ReasonInvalidClaim
	case c.orchestrator().Validate() != nil:
		return ReasonInvalidClaim
	case c.orchestrator().Reserved():
		return ReasonInvalidClaim // the gateway's own
	case c.DaemonID != "" && protocol.DaemonID(c.DaemonID).Validate() != nil:
		return ReasonInvalidClaim
	}
	return ""
}

func (c *claims) orchestrator() protocol.OrchestratorID {
	if c.OrchestratorID != "" {
		return protocol.OrchestratorID(c.OrchestratorID)
	}
	return protocol.OrchestratorID(c.Subject)
}

func (v *Verifier) issuerPasses(issuer string) bool {
	if issuer == "" {
		return !v.cfg.JWTStrict
	}
	return v.cfg.JWTIssuer == "" || issuer == v.cfg.JWTIssuer
}

func (v *Verifier) audiencePasses(audience jwt.ClaimStrings) bool {
	if len(audience) == 0 {
		return !v.cfg.JWTStrict
	}
	return v.cfg.JWTAudience == "" || slices.Contains(audience, v.cfg.JWTAudience)
}

// CheckOrigin reports as an *Error if a token is used from an address that it does
// not name.
func (id Identity) CheckOrigin(from netip.Addr) error {
	if id.From != nil && !access.Within(id.From, from) {
		return refuse(ReasonWrongAddress)
	}
	return nil
}

// CheckClaimed reports as an *Error if a daemon claims another orchestrator
// than its token says, or, with JWT_BIND_DAEMON_ID, another daemon. Invariant 5
// (nobody sees another's events) starts here.
func (v *Verifier) CheckClaimed(id Identity, orchestrator protocol.OrchestratorID, daemon protocol.DaemonID) error {
	switch {
	case id.Orchestrator != orchestrator:
		return refuse(ReasonOtherOrchestrator)
	case v.cfg.JWTBindDaemonID && id.Daemon != daemon:
		return refuse(ReasonOtherDaemon)
	}
	return nil
}
