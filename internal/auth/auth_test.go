package auth_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	secret   settings.Secret = "one-secret-of-at-least-32-bytes-for-tests"
	previous settings.Secret = "the-secret-before-it-of-at-least-32-bytes"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// loginClaims are those of POST /api/daemon/auth, guideClaims those of the
// integration guide.
func loginClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"orchestratorId": "orch-1",
		"daemonId":       "daemon_session_orch-1_1732291200000",
		"scopes":         []string{},
		"type":           "access",
		"exp":            now.Add(time.Hour).Unix(),
	}
}

func guideClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"sub": "orch-1", "daemonId": "daemon-1", "scopes": []string{"messages:read", "vp:status"}, "type": "access",
		"iss": "neolith-platform", "aud": "neolith-api", "jti": "token-1",
		"workspaceId": "ws-1", "organizationId": "org-1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
}

func with(claims jwt.MapClaims, changes jwt.MapClaims) jwt.MapClaims {
	changed := maps.Clone(claims)
	for name, value := range changes {
		if value == nil {
			delete(changed, name)
			continue
		}
		changed[name] = value
	}
	return changed
}

func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return token
}

func hs256(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	return sign(t, jwt.SigningMethodHS256, []byte(secret), claims)
}

func newVerifier(t *testing.T, change func(*auth.Config)) *auth.Verifier {
	t.Helper()
	cfg := settings.Default[auth.Config]()
	cfg.DaemonJWTSecret = secret
	if change != nil {
		change(&cfg)
	}
	v, err := auth.New(cfg)
	require.NoError(t, err)
	return v
}

func TestVerifyLoginShape(t *testing.T) {
	t.Parallel()
	id, err := newVerifier(t, nil).Verify(hs256(t, loginClaims()), now)
	require.NoError(t, err)
	require.Equal(t, protocol.OrchestratorID("orch-1"), id.Orchestrator)
	require.Equal(t, protocol.DaemonID("daemon_session_orch-1_1732291200000"), id.Daemon)
	require.True(t, id.Scopes.Unrestricted())
	require.True(t, now.Add(time.Hour).Equal(id.ExpiresAt))
	require.Empty(t, id.TokenID)
}

func TestVerifyGuideShape(t *testing.T) {
	t.Parallel()
	id, err := newVerifier(t, func(c *auth.Config) { c.JWTStrict = true }).Verify(hs256(t, guideClaims()), now)
	require.NoError(t, err)
	require.Equal(t, protocol.OrchestratorID("orch-1"), id.Orchestrator)
	require.Equal(t, protocol.DaemonID("daemon-1"), id.Daemon)
	require.Equal(t, []string{"messages:read", "vp:status"}, id.Scopes.List())
	require.Equal(t, "token-1", id.TokenID)
	require.Equal(t, "ws-1", id.Workspace)
	require.Equal(t, "org-1", id.Organization)
	require.Equal(t, "neolith-platform", id.Issuer)
}

// Reports: auth0/node-jsonwebtoken#141, lcobucci/jwt#191, lexik/LexikJWTAuthenticationBundle#286,
// golang-jwt/jwt#199, #526, go-jose/go-jose#278.
func TestVerifyClaims(t *testing.T) {
	t.Parallel()
	strict := func(c *auth.Config) { c.JWTStrict = true }
	hour := func(c *auth.Config) { c.JWTMaxLifetime = time.Hour }
	at := func(offset time.Duration) int64 { return now.Add(offset).Unix() }
	tests := []struct {
		name   string
		change func(*auth.Config)
		claims jwt.MapClaims
		want   auth.Reason // "" for accepted
	}{
		{name: "expired within the leeway", claims: jwt.MapClaims{"exp": at(-29 * time.Second)}},
		{name: "expired beyond the leeway", claims: jwt.MapClaims{"exp": at(-30 * time.Second)}, want: auth.ReasonExpired},
		{name: "never expires", claims: jwt.MapClaims{"exp": nil}, want: auth.ReasonMissingClaim},
		{name: "expiry is text", claims: jwt.MapClaims{"exp": "tomorrow"}, want: auth.ReasonMalformed},
		{name: "starts within the leeway", claims: jwt.MapClaims{"nbf": at(30 * time.Second)}},
		{name: "starts beyond the leeway", claims: jwt.MapClaims{"nbf": at(31 * time.Second)}, want: auth.ReasonNotYetValid},
		{name: "issued within the leeway", claims: jwt.MapClaims{"iat": at(30 * time.Second)}},
		{name: "starts in an hour", claims: jwt.MapClaims{"nbf": at(time.Hour)}, want: auth.ReasonNotYetValid},
		{name: "issued in the future", claims: jwt.MapClaims{"iat": at(31 * time.Second)}, want: auth.ReasonNotYetValid},

		{name: "expiry in milliseconds", claims: jwt.MapClaims{"exp": now.Add(time.Hour).UnixMilli()}, want: auth.ReasonInvalidTime},
		{name: "expires in the year 58881", claims: jwt.MapClaims{"exp": 1795951200000}, want: auth.ReasonInvalidTime},
		{name: "expires in the last second of 9999", claims: jwt.MapClaims{"exp": 253402300799}},
		{name: "expires in the year 10000", claims: jwt.MapClaims{"exp": 253402300800}, want: auth.ReasonInvalidTime},
		{name: "expires before 1970", claims: jwt.MapClaims{"exp": -1}, want: auth.ReasonInvalidTime},
		{name: "expires beyond what a float holds", claims: jwt.MapClaims{"exp": json.Number("1e400")}, want: auth.ReasonInvalidTime},
		{name: "starts in milliseconds", claims: jwt.MapClaims{"nbf": now.UnixMilli()}, want: auth.ReasonInvalidTime},
		{name: "starts beyond an int64", claims: jwt.MapClaims{"nbf": json.Number("1e19")}, want: auth.ReasonInvalidTime},
		{name: "starts before 1970", claims: jwt.MapClaims{"nbf": -1}, want: auth.ReasonInvalidTime},
		{name: "issued in milliseconds", claims: jwt.MapClaims{"iat": now.UnixMilli()}, want: auth.ReasonInvalidTime},
		{name: "issued beyond an int64", claims: jwt.MapClaims{"iat": json.Number("18446744073709551616")}, want: auth.ReasonInvalidTime},
		{name: "times with fractions", claims: jwt.MapClaims{"exp": float64(at(time.Hour)) + 0.5, "iat": float64(at(0)) - 0.5}},
		{name: "a time in milliseconds, and expired", claims: jwt.MapClaims{"exp": at(-time.Hour), "nbf": now.UnixMilli()}, want: auth.ReasonInvalidTime},

		{name: "as long as it may live", change: hour, claims: nil},
		{name: "longer than it may live", change: hour, claims: jwt.MapClaims{"exp": at(time.Hour + time.Second)}, want: auth.ReasonLifetime},
		{name: "longer than it may live, and old", change: hour, claims: jwt.MapClaims{"iat": at(-time.Minute)}, want: auth.ReasonLifetime},
		{name: "as long as it may live from now on", change: hour, claims: jwt.MapClaims{"iat": nil}},
		{name: "longer than it may live from now on", change: hour, claims: jwt.MapClaims{"iat": nil, "exp": at(time.Hour + 31*time.Second)}, want: auth.ReasonLifetime},

		{name: "refresh token", claims: jwt.MapClaims{"type": "refresh"}, want: auth.ReasonWrongType},
		{name: "no type", claims: jwt.MapClaims{"type": nil}, want: auth.ReasonWrongType},
		{name: "type in capitals", claims: jwt.MapClaims{"type": "ACCESS"}, want: auth.ReasonWrongType},

		{name: "other issuer", claims: jwt.MapClaims{"iss": "somebody"}, want: auth.ReasonWrongIssuer},
		{name: "other issuer, any allowed", change: func(c *auth.Config) { c.JWTIssuer = "" }, claims: jwt.MapClaims{"iss": "somebody"}},
		{name: "no issuer", claims: jwt.MapClaims{"iss": nil}},
		{name: "no issuer, strict", change: strict, claims: jwt.MapClaims{"iss": nil}, want: auth.ReasonWrongIssuer},
		{name: "other audience", claims: jwt.MapClaims{"aud": "somebody"}, want: auth.ReasonWrongAudience},
		{name: "one of several audiences", claims: jwt.MapClaims{"aud": []string{"somebody", "neolith-api"}}},
		{name: "other audience, any allowed", change: func(c *auth.Config) { c.JWTAudience = "" }, claims: jwt.MapClaims{"aud": "somebody"}},
		{name: "no audience", claims: jwt.MapClaims{"aud": nil}},
		{name: "no audience, strict", change: strict, claims: jwt.MapClaims{"aud": nil}, want: auth.ReasonWrongAudience},

		{name: "no orchestrator", claims: jwt.MapClaims{"sub": nil}, want: auth.ReasonMissingClaim},
		{name: "orchestrator in both places", claims: jwt.MapClaims{"orchestratorId": "orch-1"}},
		{name: "two orchestrators", claims: jwt.MapClaims{"orchestratorId": "orch-2"}, want: auth.ReasonInvalidClaim},
		{name: "orchestrator too long", claims: jwt.MapClaims{"sub": strings.Repeat("o", 129)}, want: auth.ReasonInvalidClaim},
		{name: "orchestrator is a number", claims: jwt.MapClaims{"sub": 7}, want: auth.ReasonMalformed},
		{name: "orchestrator of a canary", claims: jwt.MapClaims{"sub": "_canary_edge-1"}, want: auth.ReasonInvalidClaim},
		{name: "canary in the other place", claims: jwt.MapClaims{"sub": nil, "orchestratorId": "_canary_edge-1"}, want: auth.ReasonInvalidClaim},
		{name: "daemon too long", claims: jwt.MapClaims{"daemonId": strings.Repeat("d", 129)}, want: auth.ReasonInvalidClaim},
		{name: "no daemon", claims: jwt.MapClaims{"daemonId": nil}},
		{name: "scopes are text", claims: jwt.MapClaims{"scopes": "messages:read"}, want: auth.ReasonMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := newVerifier(t, tt.change).Verify(hs256(t, with(guideClaims(), tt.claims)), now)
			requireReason(t, tt.want, err)
		})
	}
}

func requireReason(t *testing.T, want auth.Reason, err error) {
	t.Helper()
	if want == "" {
		require.NoError(t, err)
		return
	}
	var refused *auth.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, want, refused.Reason)
	require.NotEmpty(t, refused.Error())
	passing := []auth.Reason{auth.ReasonNotYetValid, auth.ReasonUnknownKey, auth.ReasonKeysUnavailable}
	require.Equal(t, slices.Contains(passing, want) && refused.Wait <= 10*time.Minute, refused.Passes())
	code := protocol.AuthFailed
	if want == auth.ReasonExpired {
		code = protocol.AuthTokenExpired
	}
	require.Equal(t, code, refused.Code())
}

func TestVerifyForgeries(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	valid := hs256(t, loginClaims())
	unsigned := valid[:strings.LastIndexByte(valid, '.')+1]
	encode := base64.RawURLEncoding.EncodeToString
	payload := strings.Split(valid, ".")[1]
	signed := func(text string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(text))
		return text + "." + encode(mac.Sum(nil))
	}
	tests := map[string]struct {
		token string
		want  auth.Reason
	}{
		"none":                      {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, loginClaims()), auth.ReasonWrongAlgorithm},
		"none in capitals":          {encode([]byte(`{"alg":"NONE"}`)) + "." + payload + ".", auth.ReasonWrongAlgorithm},
		"RS256":                     {sign(t, jwt.SigningMethodRS256, rsaKey, loginClaims()), auth.ReasonWrongAlgorithm},
		"HS512 with our secret":     {sign(t, jwt.SigningMethodHS512, []byte(secret), loginClaims()), auth.ReasonWrongAlgorithm},
		"HS384 with our secret":     {sign(t, jwt.SigningMethodHS384, []byte(secret), loginClaims()), auth.ReasonWrongAlgorithm},
		"unknown algorithm":         {signed(encode([]byte(`{"alg":"HS257"}`)) + "." + payload), auth.ReasonWrongAlgorithm},
		"no algorithm":              {signed(encode([]byte(`{"typ":"JWT"}`)) + "." + payload), auth.ReasonWrongAlgorithm},
		"critical extension":        {signed(encode([]byte(`{"alg":"HS256","crit":["x"],"x":1}`)) + "." + payload), auth.ReasonMalformed},
		"other secret":              {sign(t, jwt.SigningMethodHS256, []byte(previous), loginClaims()), auth.ReasonBadSignature},
		"other secret, and expired": {sign(t, jwt.SigningMethodHS256, []byte(previous), with(loginClaims(), jwt.MapClaims{"exp": 1})), auth.ReasonBadSignature},
		"no signature":              {unsigned, auth.ReasonBadSignature},
		"payload of another token":  {swapPayload(valid, hs256(t, with(loginClaims(), jwt.MapClaims{"orchestratorId": "orch-2"}))), auth.ReasonBadSignature},
		"signature with stray bits": {straySignature(valid), auth.ReasonMalformed},
		"signature with a newline":  {valid + "\n", auth.ReasonMalformed},
		"empty":                     {"", auth.ReasonMalformed},
		"not a token":               {"hello", auth.ReasonMalformed},
		"four parts":                {valid + ".x", auth.ReasonMalformed},
		"payload is no JSON":        {signed(encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte("hello"))), auth.ReasonMalformed},
		"too long":                  {hs256(t, with(loginClaims(), jwt.MapClaims{"padding": strings.Repeat("x", auth.MaxTokenBytes)})), auth.ReasonMalformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newVerifier(t, nil).Verify(tt.token, now)
			requireReason(t, tt.want, err)
		})
	}
}

// straySignature spells the same signature in another way: of the last character
// of 32 bytes in base64 two bits say nothing.
func straySignature(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(token) - 1
	return token[:last] + string(alphabet[strings.IndexByte(alphabet, token[last])+1])
}

func swapPayload(token, other string) string {
	parts := strings.Split(token, ".")
	parts[1] = strings.Split(other, ".")[1]
	return strings.Join(parts, ".")
}

// An older Neolith service builds tokens whose third part is no HMAC but base64
// text that holds the secret. Such a token fails, and nothing of it reaches a
// log: neither as the error's text nor through %+v or %#v.
func TestVerifyNeverRepeatsTheToken(t *testing.T) {
	t.Parallel()
	valid := strings.Split(hs256(t, loginClaims()), ".")
	for name, encoding := range map[string]*base64.Encoding{
		"base64url without padding": base64.RawURLEncoding,
		"base64 with padding":       base64.StdEncoding,
	} {
		third := encoding.EncodeToString([]byte(valid[0] + "." + valid[1] + "." + string(secret)))
		token := valid[0] + "." + valid[1] + "." + third
		_, err := newVerifier(t, nil).Verify(token, now)
		require.Error(t, err, name)
		text := fmt.Sprintf("%v %+v %#v", err, err, err)
		for unwrapped := errors.Unwrap(err); unwrapped != nil; unwrapped = errors.Unwrap(unwrapped) {
			text += fmt.Sprintf("%+v", unwrapped)
		}
		for _, part := range []string{third, valid[0], valid[1], string(secret), "orch-1"} {
			require.NotContains(t, text, part, name)
		}
	}
}

func TestVerifyPreviousSecrets(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, func(c *auth.Config) { c.DaemonJWTSecretPrevious = []settings.Secret{previous} })
	for _, key := range []settings.Secret{secret, previous} {
		_, err := v.Verify(sign(t, jwt.SigningMethodHS256, []byte(key), loginClaims()), now)
		require.NoError(t, err)
	}
	_, err := v.Verify(sign(t, jwt.SigningMethodHS256, []byte("a-third-secret-of-at-least-32-bytes!"), loginClaims()), now)
	requireReason(t, auth.ReasonBadSignature, err)
}

func TestCheckClaimed(t *testing.T) {
	t.Parallel()
	id := auth.Identity{Orchestrator: "orch-1", Daemon: "daemon-1"}
	unbound := func(c *auth.Config) { c.JWTBindDaemonID = false }
	tests := []struct {
		name         string
		change       func(*auth.Config)
		id           auth.Identity
		orchestrator protocol.OrchestratorID
		daemon       protocol.DaemonID
		want         auth.Reason
	}{
		{name: "own", id: id, orchestrator: "orch-1", daemon: "daemon-1"},
		{name: "other orchestrator", id: id, orchestrator: "orch-2", daemon: "daemon-1", want: auth.ReasonOtherOrchestrator},
		{name: "other orchestrator, unbound", change: unbound, id: id, orchestrator: "orch-2", daemon: "daemon-1", want: auth.ReasonOtherOrchestrator},
		{name: "other daemon", id: id, orchestrator: "orch-1", daemon: "daemon-2", want: auth.ReasonOtherDaemon},
		{name: "other daemon, unbound", change: unbound, id: id, orchestrator: "orch-1", daemon: "daemon-2"},
		{name: "token without daemon", id: auth.Identity{Orchestrator: "orch-1"}, orchestrator: "orch-1", daemon: "daemon-1", want: auth.ReasonOtherDaemon},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			requireReason(t, tt.want, newVerifier(t, tt.change).CheckClaimed(tt.id, tt.orchestrator, tt.daemon))
		})
	}
}

func TestATokenMayNameTheAddressesThatItIsUsedFrom(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, nil)
	for _, test := range []struct {
		claim      any
		here, away string // the token may be used from the first and not from the second
	}{
		{[]string{"192.0.2.0/24"}, "192.0.2.9", "198.51.100.7"},
		{[]string{"192.0.2.9"}, "192.0.2.9", "192.0.2.10"},
		{[]string{"::ffff:192.0.2.0/120", "2001:db8::/32"}, "::ffff:192.0.2.9", "2001:db9::1"},
		{nil, "192.0.2.9", ""},
	} {
		id, err := v.Verify(hs256(t, with(loginClaims(), jwt.MapClaims{"allowedCidrs": test.claim})), now)
		require.NoError(t, err)
		require.NoError(t, id.CheckOrigin(netip.MustParseAddr(test.here)))
		if test.away != "" {
			requireReason(t, auth.ReasonWrongAddress, id.CheckOrigin(netip.MustParseAddr(test.away)))
			requireReason(t, auth.ReasonWrongAddress, id.CheckOrigin(netip.Addr{}))
		}
	}
	for name, claim := range map[string]any{
		"nothing that is named": []string{}, "no range": []string{"192.0.2.0/24", "nonsense"}, "a name": []string{"localhost"},
	} {
		_, err := v.Verify(hs256(t, with(loginClaims(), jwt.MapClaims{"allowedCidrs": claim})), now)
		requireReason(t, auth.ReasonInvalidClaim, err)
		require.Error(t, err, name)
	}
	_, err := v.Verify(hs256(t, with(loginClaims(), jwt.MapClaims{"allowedCidrs": "192.0.2.0/24"})), now)
	require.Error(t, err, "a text is no list")
}

func TestNewRefusesWeakSecrets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*auth.Config)
		want   string // part of the message; "" for accepted
	}{
		{name: "none", change: func(c *auth.Config) { c.DaemonJWTSecret = "" }, want: "DAEMON_JWT_SECRET"},
		{name: "none, insecure allowed", change: func(c *auth.Config) { c.DaemonJWTSecret = ""; c.AllowInsecureSecret = true }, want: "DAEMON_JWT_SECRET"},
		{name: "short", change: func(c *auth.Config) { c.DaemonJWTSecret = "only-31-bytes-long-as-a-secret!" }, want: "32 bytes"},
		{name: "short, insecure allowed", change: func(c *auth.Config) { c.DaemonJWTSecret = "short"; c.AllowInsecureSecret = true }},
		{name: "published", change: func(c *auth.Config) { c.DaemonJWTSecret = "daemon-secret-change-in-production" }, want: "published"},
		{name: "published in the guide", change: func(c *auth.Config) { c.DaemonJWTSecret = "your-super-secret-jwt-key-change-in-production" }, want: "published"},
		{name: "weak previous", change: func(c *auth.Config) { c.DaemonJWTSecretPrevious = []settings.Secret{previous, "short"} }, want: "entry 2"},
		{name: "strict without issuer", change: func(c *auth.Config) { c.JWTStrict = true; c.JWTIssuer = "" }, want: "JWT_ISSUER"},
		{name: "strict without audience", change: func(c *auth.Config) { c.JWTStrict = true; c.JWTAudience = "" }, want: "JWT_AUDIENCE"},
		{name: "good", change: func(*auth.Config) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := settings.Default[auth.Config]()
			cfg.DaemonJWTSecret = secret
			tt.change(&cfg)
			_, err := auth.New(cfg)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			for _, given := range append(cfg.DaemonJWTSecretPrevious, cfg.DaemonJWTSecret) {
				if given != "" {
					require.NotContains(t, err.Error(), string(given))
				}
			}
		})
	}
}

func TestMintedTokenVerifies(t *testing.T) {
	t.Parallel()
	token, err := auth.Mint(secret, auth.Grant{
		Orchestrator: "orch-1", Daemon: "daemon-1", Scopes: []string{"*"}, IssuedAt: now, ExpiresAt: now.Add(time.Minute),
		Issuer: "neolith-platform", Audience: "neolith-api", TokenID: "token-1",
	})
	require.NoError(t, err)
	id, err := newVerifier(t, func(c *auth.Config) { c.JWTStrict = true }).Verify(token, now)
	require.NoError(t, err)
	require.Equal(t, protocol.OrchestratorID("orch-1"), id.Orchestrator)
	require.Equal(t, protocol.DaemonID("daemon-1"), id.Daemon)
	require.Equal(t, "token-1", id.TokenID)

	_, err = auth.Mint("", auth.Grant{Orchestrator: "orch-1"})
	require.Error(t, err)
}

func TestEveryReasonHasAMessage(t *testing.T) {
	t.Parallel()
	require.Len(t, auth.Reasons(), 22)
	for _, reason := range auth.Reasons() {
		require.NotEmpty(t, (&auth.Error{Reason: reason}).Error(), reason)
	}
}

// A clock that is being set passes by itself; a token that begins in an hour was
// made so, and its daemon is told with a code that says that it needs another.
func TestATokenThatBeginsLaterPassesOnlyWhereAClockMayBeWrong(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, nil)
	for wait, passes := range map[time.Duration]bool{time.Minute: true, 10 * time.Minute: true, time.Hour: false} {
		_, err := v.Verify(hs256(t, with(loginClaims(), jwt.MapClaims{"nbf": now.Add(wait).Unix()})), now)
		var refused *auth.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, passes, refused.Passes(), wait)
	}
}
