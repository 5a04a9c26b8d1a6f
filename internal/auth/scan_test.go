package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

const scanSecret settings.Secret = "one-secret-of-at-least-32-bytes-for-tests"

const (
	usualToken   = `{"alg":"HS256","typ":"JWT"}`
	usualPayload = `{"orchestratorId":"orch-1","daemonId":"daemon-1","scopes":["messages:read"],"type":"access","iss":"neolith-platform","aud":"neolith-api","iat":1795341600,"exp":1795345200}`
)

var scanNow = time.Unix(1795341660, 0)

func scanVerifier(t testing.TB) *Verifier {
	cfg := settings.Default[Config]()
	cfg.DaemonJWTSecret = scanSecret
	cfg.DaemonJWTSecretPrevious = []settings.Secret{"the-secret-before-it-of-at-least-32-bytes"}
	v, err := New(cfg)
	require.NoError(t, err)
	return v
}

func signedToken(header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	h := hmac.New(sha256.New, []byte(scanSecret))
	_, _ = h.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// requireAgreement: what is accepted without the library, it accepts, and reads
// in the same way.
func requireAgreement(t *testing.T, v *Verifier, token string) {
	t.Helper()
	c, ok := v.scan(token, v.keys.Load(), scanNow)
	if !ok {
		return
	}
	got, gotErr := v.identify(&c)
	want, wantErr := v.parse(token, v.keys.Load(), scanNow)
	require.Equal(t, wantErr, gotErr, "%s", token)
	if want.Scopes.granted == nil && len(got.Scopes.granted) == 0 {
		got.Scopes.granted = nil
	}
	require.Equal(t, want, got, "%s", token)
}

func TestUsualTokensNeedNoLibrary(t *testing.T) {
	t.Parallel()
	v := scanVerifier(t)
	for _, payload := range []string{
		usualPayload,
		`{"sub":"orch-1","exp":1795345200,"type":"access","scopes":[],"aud":["a","neolith-api"],"more":{"deep":[1,null]}}`,
	} {
		_, ok := v.scan(signedToken(usualToken, payload), v.keys.Load(), scanNow)
		require.True(t, ok, "%s", payload)
		requireAgreement(t, v, signedToken(usualToken, payload))
	}
}

// TestUnusualTokensAreLeftToTheLibrary: each of these could be read in two ways,
// or is refused.
func TestUnusualTokensAreLeftToTheLibrary(t *testing.T) {
	t.Parallel()
	v := scanVerifier(t)
	usual := signedToken(usualToken, usualPayload)
	for name, token := range map[string]string{
		"nothing":                  "",
		"a part too few":           usual[:len(usual)-44],
		"a part too many":          usual + ".",
		"no signature":             usual[:len(usual)-43],
		"another signature":        usual[:len(usual)-4] + "AAAA",
		"another algorithm":        signedToken(`{"alg":"HS512"}`, usualPayload),
		"no algorithm":             signedToken(`{"typ":"JWT"}`, usualPayload),
		"two algorithms":           signedToken(`{"alg":"HS256","alg":"HS256"}`, usualPayload),
		"something to understand":  signedToken(`{"alg":"HS256","crit":["x"]}`, usualPayload),
		"a number in the header":   signedToken(`{"alg":"HS256","kid":1e999}`, usualPayload),
		"a name in capitals":       signedToken(usualToken, `{"EXP":1,"sub":"o","type":"access","exp":1795345200}`),
		"a name in other letters":  signedToken(usualToken, `{"ſub":"o","type":"access","exp":1795345200}`),
		"a name twice":             signedToken(usualToken, `{"sub":"o","sub":"p","type":"access","exp":1795345200}`),
		"null":                     signedToken(usualToken, `{"sub":null,"type":"access","exp":1795345200}`),
		"an escape":                signedToken(usualToken, `{"sub":"\u006f","type":"access","exp":1795345200}`),
		"an end that is a text":    signedToken(usualToken, `{"sub":"o","type":"access","exp":"1795345200"}`),
		"an end with a fraction":   signedToken(usualToken, `{"sub":"o","type":"access","exp":1795345200.5}`),
		"one scope":                signedToken(usualToken, `{"sub":"o","type":"access","exp":1795345200,"scopes":"x"}`),
		"text that is no UTF-8":    signedToken(usualToken, "{\"sub\":\"o\xff\",\"type\":\"access\",\"exp\":1795345200}"),
		"no end":                   signedToken(usualToken, `{"sub":"o","type":"access"}`),
		"expired":                  signedToken(usualToken, `{"sub":"o","type":"access","exp":1795341630}`),
		"issued in the future":     signedToken(usualToken, `{"sub":"o","type":"access","exp":1795345200,"iat":1795341691}`),
		"not valid yet":            signedToken(usualToken, `{"sub":"o","type":"access","exp":1795345200,"nbf":1795341691}`),
		"an end in milliseconds":   signedToken(usualToken, `{"sub":"o","type":"access","exp":1795345200000}`),
		"a signature that is long": usual[:len(usual)-1] + string(usual[len(usual)-1]+1),
		"no object":                signedToken(usualToken, `[]`),
		"limited to addresses":     signedToken(usualToken, `{"sub":"o","type":"access","exp":1795345200,"allowedCidrs":["10.0.0.0/8"]}`),
		"the same in capitals":     signedToken(usualToken, `{"sub":"o","type":"access","exp":1795345200,"ALLOWEDCIDRS":["10.0.0.0/8"]}`),
		"something after the body": signedToken(usualToken, usualPayload+"x"),
	} {
		_, ok := v.scan(token, v.keys.Load(), scanNow)
		require.False(t, ok, name)
	}
}

// TestVerifyingAUsualTokenAllocatesLittle: each connect verifies one.
func TestVerifyingAUsualTokenAllocatesLittle(t *testing.T) {
	v := scanVerifier(t)
	token := signedToken(usualToken, usualPayload)
	require.LessOrEqual(t, testing.AllocsPerRun(200, func() { _, _ = v.Verify(token, scanNow) }), 18.0)
}

func BenchmarkVerify(b *testing.B) {
	v := scanVerifier(b)
	token := signedToken(usualToken, usualPayload)
	for name, verify := range map[string]func(string, time.Time) (Identity, error){"scanned": v.Verify, "by the library": func(token string, now time.Time) (Identity, error) { return v.parse(token, v.keys.Load(), now) }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verify(token, scanNow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzScannerAndLibraryAgree(f *testing.F) {
	f.Add(usualToken, usualPayload, false)
	f.Add(`{"alg":"HS256"}`, `{"sub":"o","type":"access","exp":1795345200,"nbf":1,"aud":["x"],"scopes":[]}`, false)
	f.Add(`{"alg":"none"}`, `{}`, true)
	v := scanVerifier(f)
	f.Fuzz(func(t *testing.T, header, payload string, raw bool) {
		token := header + "." + payload + "."
		if !raw {
			token = signedToken(header, payload)
		}
		requireAgreement(t, v, token)
	})
}
