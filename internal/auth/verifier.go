package auth

import (
	"errors"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

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
	TokenID      string // jti, for revocation; may be empty
	Workspace    string // may be empty
	Organization string // may be empty
	Issuer       string // may be empty
}

// Verifier verifies access tokens. It is immutable and may be used
// concurrently.
type Verifier struct {
	cfg     Config
	keys    jwt.VerificationKeySet
	signers []*signer // of the same secrets
}

// New returns a verifier, or a *settings.Error if the configuration would
// accept forged tokens.
func New(cfg Config) (*Verifier, error) {
	if err := settings.Validate(&cfg); err != nil {
		return nil, err
	}
	cfg.DaemonJWTSecretPrevious = slices.Clone(cfg.DaemonJWTSecretPrevious)
	v := &Verifier{cfg: cfg}
	for _, secret := range append([]settings.Secret{cfg.DaemonJWTSecret}, cfg.DaemonJWTSecretPrevious...) {
		v.keys.Keys = append(v.keys.Keys, []byte(secret))
		v.signers = append(v.signers, newSigner([]byte(secret)))
	}
	return v, nil
}

// claims are those of both token shapes: Neolith's login route names the
// orchestrator in orchestratorId, its integration guide in sub.
type claims struct {
	jwt.RegisteredClaims
	OrchestratorID string   `json:"orchestratorId,omitempty"`
	DaemonID       string   `json:"daemonId,omitempty"`
	Scopes         []string `json:"scopes,omitempty"`
	Type           string   `json:"type,omitempty"`
	WorkspaceID    string   `json:"workspaceId,omitempty"`
	OrganizationID string   `json:"organizationId,omitempty"`
}

// Verify returns who the bearer of token is, or an *Error. Nothing of the
// payload is believed, or told apart in the answer, before the signature.
func (v *Verifier) Verify(token string, now time.Time) (Identity, error) {
	if len(token) > MaxTokenBytes {
		return Identity{}, refuse(ReasonMalformed)
	}
	if c, ok := v.scan(token, now); ok {
		return v.identify(&c)
	}
	return v.parse(token, now)
}

// parse is Verify without scan.
func (v *Verifier) parse(token string, now time.Time) (Identity, error) {
	var c claims
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithLeeway(Leeway),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	parsed, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return v.keys, nil })
	if err != nil {
		return Identity{}, refuse(classify(parsed, err))
	}
	if _, critical := parsed.Header["crit"]; critical {
		// RFC 7515, 4.1.11: an extension that must be understood, and is not.
		return Identity{}, refuse(ReasonMalformed)
	}
	return v.identify(&c)
}

// classify maps the library's error to a reason. The error itself goes no
// further, because it may quote the token.
func classify(token *jwt.Token, err error) Reason {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return ReasonMalformed
	case token == nil || token.Method == nil || token.Method.Alg() != jwt.SigningMethodHS256.Alg():
		return ReasonWrongAlgorithm
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return ReasonBadSignature
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return ReasonMissingClaim
	case errors.Is(err, jwt.ErrTokenExpired):
		return ReasonExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return ReasonNotYetValid
	}
	return ReasonInvalidClaim
}

func (v *Verifier) identify(c *claims) (Identity, error) {
	if reason := v.refusal(c); reason != "" {
		return Identity{}, refuse(reason)
	}
	return Identity{
		Orchestrator: c.orchestrator(),
		Daemon:       protocol.DaemonID(c.DaemonID),
		Scopes:       NewScopes(c.Scopes, v.cfg.ScopesStrict),
		ExpiresAt:    c.ExpiresAt.Time,
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
