package auth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// pairs are private keys of each kind that is accepted.
type pairs struct {
	rsa     *rsa.PrivateKey
	ecdsa   *ecdsa.PrivateKey
	ed25519 ed25519.PrivateKey
}

func newPairs(t *testing.T) pairs {
	t.Helper()
	var p pairs
	var err error
	p.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p.ecdsa, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, p.ed25519, err = ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return p
}

func number(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

// jwk is the public half of a key, with members changed, or with nil removed.
func jwk(t *testing.T, key crypto.Signer, id string, change map[string]any) map[string]any {
	t.Helper()
	m := map[string]any{"kid": id, "use": "sig"}
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["alg"], m["n"], m["e"] = "RSA", "RS256", number(public.N), number(big.NewInt(int64(public.E)))
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, x, y
		require.NoError(t, err)
		half := (len(point) - 1) / 2
		m["kty"], m["alg"], m["crv"] = "EC", "ES256", public.Params().Name
		m["x"], m["y"] = base64.RawURLEncoding.EncodeToString(point[1:1+half]), base64.RawURLEncoding.EncodeToString(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["alg"], m["crv"], m["x"] = "OKP", "EdDSA", "Ed25519", base64.RawURLEncoding.EncodeToString(public)
	}
	for name, value := range change {
		if value == nil {
			delete(m, name)
			continue
		}
		m[name] = value
	}
	return m
}

func jwks(t *testing.T, keys ...map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	require.NoError(t, err)
	return text
}

func signWithKey(t *testing.T, method jwt.SigningMethod, key any, id string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, loginClaims())
	if id != "" {
		token.Header["kid"] = id
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

// verifierOf has public keys, and the secret unless it is left out.
func verifierOf(t *testing.T, withSecret, pending bool, keys []auth.PublicKey) *auth.Verifier {
	t.Helper()
	v := newVerifier(t, nil)
	var secrets []settings.Secret
	if withSecret {
		secrets = []settings.Secret{secret}
	}
	v.Use(auth.NewKeys(secrets, keys, pending))
	return v
}

func TestTokensOfPublicKeys(t *testing.T) {
	t.Parallel()
	p, others := newPairs(t), newPairs(t)
	fromPEM, err := auth.ParsePEM(testserver.PublicPEM(t, p.rsa, p.ecdsa, p.ed25519))
	require.NoError(t, err)
	fromJWKS, passedOver, err := auth.ParseJWKS(jwks(t, jwk(t, p.rsa, "r", nil), jwk(t, p.ecdsa, "e", nil), jwk(t, p.ed25519, "o", nil)))
	require.NoError(t, err)
	require.Zero(t, passedOver)
	tests := []struct {
		name   string
		method jwt.SigningMethod
		key    any
		id     string
		pem    auth.Reason // with the keys from PEM, which have no ids
		jwks   auth.Reason // with those of the set
	}{
		{name: "RS256", method: jwt.SigningMethodRS256, key: p.rsa, id: "r"},
		{name: "ES256", method: jwt.SigningMethodES256, key: p.ecdsa, id: "e"},
		{name: "EdDSA", method: jwt.SigningMethodEdDSA, key: p.ed25519, id: "o"},
		{name: "RS256 without id", method: jwt.SigningMethodRS256, key: p.rsa},
		{name: "ES256 without id", method: jwt.SigningMethodES256, key: p.ecdsa},
		{name: "HS256 beside them", method: jwt.SigningMethodHS256, key: []byte(secret), id: "r"},
		{name: "an id that is not known", method: jwt.SigningMethodRS256, key: p.rsa, id: "new", jwks: auth.ReasonUnknownKey},
		{name: "another's key", method: jwt.SigningMethodRS256, key: others.rsa, id: "r", pem: auth.ReasonBadSignature, jwks: auth.ReasonBadSignature},
		{name: "another's key without id", method: jwt.SigningMethodES256, key: others.ecdsa, pem: auth.ReasonBadSignature, jwks: auth.ReasonBadSignature},
		{name: "the id of a key of another kind", method: jwt.SigningMethodRS256, key: p.rsa, id: "e", jwks: auth.ReasonWrongAlgorithm},
		{name: "PS256 with the same key", method: jwt.SigningMethodPS256, key: p.rsa, id: "r", pem: auth.ReasonWrongAlgorithm, jwks: auth.ReasonWrongAlgorithm},
		{name: "RS512 with the same key", method: jwt.SigningMethodRS512, key: p.rsa, id: "r", pem: auth.ReasonWrongAlgorithm, jwks: auth.ReasonWrongAlgorithm},
		{name: "none", method: jwt.SigningMethodNone, key: jwt.UnsafeAllowNoneSignatureType, id: "r", pem: auth.ReasonWrongAlgorithm, jwks: auth.ReasonWrongAlgorithm},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			token := signWithKey(t, tt.method, tt.key, tt.id)
			_, err := verifierOf(t, true, false, fromPEM).Verify(token, now)
			requireReason(t, tt.pem, err)
			_, err = verifierOf(t, true, false, fromJWKS).Verify(token, now)
			requireReason(t, tt.jwks, err)
		})
	}
}

// The oldest attack on public keys: everybody has them, and who takes one for the
// secret of HS256 would mint any identity.
func TestAPublicKeyIsNoSecret(t *testing.T) {
	t.Parallel()
	p := newPairs(t)
	text := testserver.PublicPEM(t, p.rsa)
	keys, err := auth.ParsePEM(text)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(p.rsa.Public())
	require.NoError(t, err)
	set := jwks(t, jwk(t, p.rsa, "r", nil))
	for name, forged := range map[string][]byte{
		"PEM": text, "DER": der, "modulus": p.rsa.N.Bytes(), "JWKS": set, "nothing": {0},
	} {
		token := signWithKey(t, jwt.SigningMethodHS256, forged, "")
		_, err := verifierOf(t, false, false, keys).Verify(token, now)
		requireReason(t, auth.ReasonWrongAlgorithm, err)
		_, err = verifierOf(t, true, false, keys).Verify(token, now)
		require.Error(t, err, name)
		requireReason(t, auth.ReasonBadSignature, err)
	}
}

func TestTokensBeforeTheKeysAreThere(t *testing.T) {
	t.Parallel()
	p := newPairs(t)
	keys, err := auth.ParsePEM(testserver.PublicPEM(t, p.ecdsa))
	require.NoError(t, err)
	v := verifierOf(t, false, true, keys)
	_, err = v.Verify(signWithKey(t, jwt.SigningMethodRS256, p.rsa, "r"), now)
	requireReason(t, auth.ReasonKeysUnavailable, err)
	_, err = v.Verify(signWithKey(t, jwt.SigningMethodES256, p.ecdsa, ""), now)
	require.NoError(t, err, "those that are there count")
	_, err = v.Verify(signWithKey(t, jwt.SigningMethodHS256, []byte(secret), ""), now)
	requireReason(t, auth.ReasonWrongAlgorithm, err)
}

func TestKeysOfASetThatAreNoneOfOurs(t *testing.T) {
	t.Parallel()
	p := newPairs(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	for name, other := range map[string]map[string]any{
		"a secret":            {"kty": "oct", "k": base64.RawURLEncoding.EncodeToString([]byte(secret)), "alg": "HS256", "kid": "s"},
		"for encryption":      jwk(t, p.rsa, "x", map[string]any{"use": "enc"}),
		"only to sign":        jwk(t, p.rsa, "x", map[string]any{"use": nil, "key_ops": []string{"sign"}}),
		"for PS256":           jwk(t, p.rsa, "x", map[string]any{"alg": "PS256"}),
		"for HS256":           jwk(t, p.rsa, "x", map[string]any{"alg": "HS256"}),
		"RSA of 1024 bits":    jwk(t, p.rsa, "x", map[string]any{"n": base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 128))}),
		"exponent 1":          jwk(t, p.rsa, "x", map[string]any{"e": "AQ"}),
		"exponent of 9 bytes": jwk(t, p.rsa, "x", map[string]any{"e": "AQAAAAAAAAAB"}),
		"P-384":               jwk(t, p384, "x", map[string]any{"alg": nil}),
		"not on the curve":    jwk(t, p.ecdsa, "x", map[string]any{"x": "AQ", "y": "AQ"}),
		"half a point":        jwk(t, p.ecdsa, "x", map[string]any{"y": nil}),
		"Ed25519 cut short":   jwk(t, p.ed25519, "x", map[string]any{"x": "AQ"}),
		"of a kind to come":   {"kty": "AKP", "alg": "ML-DSA-44", "kid": "x"},
	} {
		keys, passedOver, err := auth.ParseJWKS(jwks(t, other, jwk(t, p.ed25519, "good", nil)))
		require.NoError(t, err, name)
		require.Equal(t, 1, passedOver, name)
		require.Len(t, keys, 1, name)
		require.Equal(t, "good", keys[0].ID, name)
	}
	for name, text := range map[string]string{"nothing": "", "no set": "[]", "an empty set": `{"keys":[]}`, "a page": "<html>"} {
		_, _, err := auth.ParseJWKS([]byte(text))
		require.Error(t, err, name)
	}
}

func TestFilesWithPublicKeysAreChecked(t *testing.T) {
	t.Parallel()
	p := newPairs(t)
	private, err := x509.MarshalPKCS8PrivateKey(p.ed25519)
	require.NoError(t, err)
	file := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "keys")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	good := file(testserver.PublicPEM(t, p.ed25519))
	tests := map[string]struct {
		change func(*auth.Config)
		want   string // "" for accepted
	}{
		"keys and no secret":  {func(c *auth.Config) { c.JWTPublicKeyFile = good }, ""},
		"a set and no secret": {func(c *auth.Config) { c.JWTJWKSFile = file(jwks(t, jwk(t, p.rsa, "r", nil))) }, ""},
		"URL and no secret":   {func(c *auth.Config) { c.JWTJWKSURL = "https://issuer/keys" }, ""},
		"no file":             {func(c *auth.Config) { c.JWTPublicKeyFile = good + "x" }, "JWT_PUBLIC_KEY_FILE"},
		"a private key": {func(c *auth.Config) {
			c.JWTPublicKeyFile = file(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
		}, "something else"},
		"no keys":              {func(c *auth.Config) { c.JWTPublicKeyFile = file([]byte("hello")) }, "no public key"},
		"no set":               {func(c *auth.Config) { c.JWTJWKSFile = good }, "JWT_JWKS_FILE"},
		"URL without TLS":      {func(c *auth.Config) { c.JWTJWKSURL = "http://issuer/keys" }, "https"},
		"the same, insecure":   {func(c *auth.Config) { c.JWTJWKSURL = "http://issuer/keys"; c.AllowInsecureSecret = true }, ""},
		"no URL":               {func(c *auth.Config) { c.JWTJWKSURL = "issuer" }, "JWT_JWKS_URL"},
		"a weak secret beside": {func(c *auth.Config) { c.JWTPublicKeyFile = good; c.DaemonJWTSecret = "short" }, "32 bytes"},
		"previous ones alone": {func(c *auth.Config) {
			c.JWTPublicKeyFile, c.DaemonJWTSecretPrevious = good, []settings.Secret{previous}
		}, "DAEMON_JWT_SECRET_PREVIOUS"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := settings.Default[auth.Config]()
			tt.change(&cfg)
			_, err := auth.New(cfg)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
}
