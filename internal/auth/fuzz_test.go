package auth

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
)

// Whoever has no secret makes no token: what is accepted has the one signature
// that belongs to its text, in the one spelling that this has.
func FuzzTokens(f *testing.F) {
	usual := signedToken(usualToken, usualPayload)
	f.Add(usual)
	f.Add(usual[:len(usual)-4] + "AAAA")
	f.Add(signedToken(`{"alg":"HS256","kid":"one"}`, `{"sub":"o","type":"access","exp":1795345200.5,"scopes":["*"]}`))
	f.Add(signedToken(`{"alg":"none"}`, usualPayload))
	f.Add(signedToken(`{"alg":"EdDSA"}`, usualPayload))
	f.Add("..")
	v := scanVerifier(f)
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(token, scanNow)
		if err != nil {
			var refusal *Error
			require.True(t, errors.As(err, &refusal))
			require.Contains(t, Reasons(), refusal.Reason)
			require.NotEmpty(t, refusal.Error())
			quotetest.RequireLittle(t, []byte(token), err)
			return
		}
		cut := strings.LastIndexByte(token, '.')
		h := hmac.New(sha256.New, []byte(scanSecret))
		_, _ = h.Write([]byte(token[:cut]))
		require.Equal(t, strictBase64.EncodeToString(h.Sum(nil)), token[cut+1:])
		require.NoError(t, id.Orchestrator.Validate())
		require.False(t, id.Orchestrator.Reserved())
		require.True(t, id.Daemon == "" || id.Daemon.Validate() == nil)
		require.True(t, id.ExpiresAt.After(scanNow.Add(-Leeway)))
	})
}

// requireUsable: keys verify one of the three algorithms, and are not such that
// to verify with them is dangerous or takes long.
func requireUsable(t *testing.T, keys []PublicKey) {
	t.Helper()
	require.NotEmpty(t, keys)
	require.LessOrEqual(t, len(keys), maxPublicKeys)
	ring := NewKeys(nil, keys, false)
	for _, key := range keys {
		require.Contains(t, ring.algorithms(), key.algorithm)
		if k, ok := key.key.(*rsa.PublicKey); ok {
			require.GreaterOrEqual(t, k.N.BitLen(), minRSABits)
			require.LessOrEqual(t, k.N.BitLen(), maxRSABits)
		}
		token := signedToken(`{"alg":"`+key.algorithm+`"}`, usualPayload)
		var c claims
		_, err := ring.parse(token, &c)
		require.Error(t, err, "a token that this key has not signed")
		der, err := x509.MarshalPKIXPublicKey(key.key)
		require.NoError(t, err)
		again, err := ParsePEM(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		require.NoError(t, err)
		require.Equal(t, key.algorithm, again[0].algorithm)
	}
}

func FuzzKeySets(f *testing.F) {
	for _, seed := range keySetSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, others, err := ParseJWKS(data)
		require.LessOrEqual(t, 2*(len(keys)+others), len(data))
		if err != nil {
			quotetest.RequireLittle(t, data, err)
			return
		}
		requireUsable(t, keys)
	})
}

func FuzzPEM(f *testing.F) {
	for _, seed := range pemSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParsePEM(data)
		if err != nil {
			require.Empty(t, keys)
			quotetest.RequireLittle(t, data, err)
			return
		}
		requireUsable(t, keys)
	})
}

// Public keys of each kind, and what is none.
var (
	pemSeeds = []string{
		`-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA43m8k6tuGcK/Sjl1ANBn
ypVXZTMqyqxqsuB8KRvLEvjTEALajQcnmcROdg62Gfj+25Q5RRdDpsfG52o29JQu
QquWZcmmRbz9xJS/kk5gkL6lDPNC3JIdwgvCcKGKhXqXZeb3mKmq6nPYn+BMgN66
OMW0I96mpA1e6piYtPpPA9ledpu3mp23YVdQ0tWmXvOs7Yc++wg65t47sdX2Zx9a
Sz1D4PA6BSZT2OpPT4tNQuAijZFZR2tQxpxic4bf+WjX7QJdKvbGaGNE1y3033t3
Syh3apGfLEFsoHEj2odGMmUe7Lk3PGfHL5sNhfjimxoUyMHPCJYvom/ihSFPtg3S
HwIDAQAB
-----END PUBLIC KEY-----
`,
		`-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGLCg8D+9VW7wqZ2DpTq1P1xfRsna
zi/dVky5zV2+wiXWMTk4RruG8VA0DQ8O9Ca4VKwCgTeJQZegsDyZ1qim6Q==
-----END PUBLIC KEY-----
`,
		`-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA22kzt5sSjsO2yBcLAdxiS3CCehE4U24isB1V8irgi4Y=
-----END PUBLIC KEY-----
`,
		`-----BEGIN CERTIFICATE-----
MIIBbjCCAROgAwIBAgIUbe0Qs5aOQG+7yfqDtn0A6F6mc5gwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAeFw0yNjExMzAxMDQyNDBaFw0zNjExMjcxMDQyNDBaMAwx
CjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARcd/Nhqj5X9xhI
ZlaGJd64/Bb1Q4a48BxCJooPORaQ6zwM0ubEk0asl2KbhFa9w95y39DoKaAoIDWI
L2KnIMNGo1MwUTAdBgNVHQ4EFgQUmtxjjWJA84WraUVX0fcqqoxTWLwwHwYDVR0j
BBgwFoAUmtxjjWJA84WraUVX0fcqqoxTWLwwDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNJADBGAiEArhJjQn83+2Yw3EAqV9ahPtC7zkLdRBE4H4sR2hAmvoQC
IQDRt18vfk2ljKZpspSDilCBQHmETM5SeXTun65iMESC3g==
-----END CERTIFICATE-----
`,
		"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n",
	}
	keySetSeeds = []string{
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"22kzt5sSjsO2yBcLAdxiS3CCehE4U24isB1V8irgi4Y"}]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","x":"GLCg8D-9VW7wqZ2DpTq1P1xfRsnazi_dVky5zV2-wiU","y":"1jE5OEa7hvFQNA0PDvQmuFSsAoE3iUGXoLA8mdaopuk"}]}`,
		`{"keys":[{"kty":"RSA","key_ops":["verify"],"n":"43m8k6tuGcK_Sjl1ANBnypVXZTMqyqxqsuB8KRvLEvjTEALajQcnmcROdg62Gfj-25Q5RRdDpsfG52o29JQuQquWZcmmRbz9xJS_kk5gkL6lDPNC3JIdwgvCcKGKhXqXZeb3mKmq6nPYn-BMgN66OMW0I96mpA1e6piYtPpPA9ledpu3mp23YVdQ0tWmXvOs7Yc--wg65t47sdX2Zx9aSz1D4PA6BSZT2OpPT4tNQuAijZFZR2tQxpxic4bf-WjX7QJdKvbGaGNE1y3033t3Syh3apGfLEFsoHEj2odGMmUe7Lk3PGfHL5sNhfjimxoUyMHPCJYvom_ihSFPtg3SHw","e":"AQAB"}]}`,
		`{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"RSA","n":"AQ","e":"AQ"},7]}`,
	}
)
