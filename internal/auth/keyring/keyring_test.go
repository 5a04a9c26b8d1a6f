package keyring

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const (
	secret settings.Secret = "a-secret-of-the-tests-with-enough-bytes"
	later  settings.Secret = "the-secret-that-comes-after-it-is-changed"
)

// harness is a ring that runs, and what it gives its keys to.
type harness struct {
	*testing.T
	*Ring
	verifier *auth.Verifier
}

func start(t *testing.T, change func(*auth.Config)) *harness {
	t.Helper()
	cfg := settings.Default[auth.Config]()
	change(&cfg)
	v, err := auth.New(cfg)
	require.NoError(t, err)
	r, err := New(cfg, v.Use, slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
	require.NoError(t, err)
	r.rereadInterval, r.leastInterval = 10*time.Millisecond, 10*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return &harness{t, r, v}
}

// eventually waits until a token is judged like this; "" is accepted.
func (h *harness) eventually(token string, want auth.Reason) {
	h.Helper()
	require.Eventually(h, func() bool { return h.judge(token) == want }, testserver.Patience, 5*time.Millisecond)
}

func (h *harness) judge(token string) auth.Reason {
	_, err := h.verifier.Verify(token, time.Now())
	if err == nil {
		return ""
	}
	return err.(*auth.Error).Reason
}

func (h *harness) eventuallyReady(want bool, detail string) {
	h.Helper()
	require.Eventually(h, func() bool {
		ok, text := h.Check()
		return ok == want && strings.Contains(text, detail)
	}, testserver.Patience, 5*time.Millisecond)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", content, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return key
}

// set is a JSON Web Key Set of keys by their ids.
func set(t *testing.T, keys map[string]ed25519.PrivateKey) []byte {
	t.Helper()
	var list []map[string]string
	for id, key := range keys {
		x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		list = append(list, map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})
	}
	text, err := json.Marshal(map[string]any{"keys": list})
	require.NoError(t, err)
	return text
}

func tokenOf(t *testing.T, key ed25519.PrivateKey, id string) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"orchestratorId": "orch", "type": "access", "exp": time.Now().Add(time.Hour).Unix(),
	})
	if id != "" {
		token.Header["kid"] = id
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func minted(t *testing.T, s settings.Secret) string {
	t.Helper()
	token, err := auth.Mint(s, auth.Grant{Orchestrator: "orch", ExpiresAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	return token
}

func TestAChangedSecretCountsWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	current, before := filepath.Join(dir, "secret"), filepath.Join(dir, "before")
	write(t, current, []byte(secret+"\n"))
	write(t, before, nil)
	var cfg auth.Config
	require.NoError(t, settings.Parse("edge", "", &cfg, nil, func(name string) (string, bool) {
		path, ok := map[string]string{"DAEMON_JWT_SECRET_FILE": current, "DAEMON_JWT_SECRET_PREVIOUS_FILE": before}[name]
		return path, ok
	}))
	h := start(t, func(c *auth.Config) { *c = cfg })
	h.eventually(minted(t, secret), "")
	require.Equal(t, auth.ReasonBadSignature, h.judge(minted(t, later)))

	write(t, before, []byte(later+"\n"))
	h.eventually(minted(t, later), "")
	write(t, current, []byte(later+"\n"))
	write(t, before, nil)
	h.eventually(minted(t, secret), auth.ReasonBadSignature)
	require.Empty(t, h.judge(minted(t, later)))

	for problem, content := range map[string]string{"32 bytes": "short", "is empty": "", "published": "daemon-secret-change-in-production"} {
		write(t, current, []byte(content))
		h.eventuallyReady(true, problem)
		require.Empty(t, h.judge(minted(t, later)), "the last good one stays in force")
	}
	require.NoError(t, os.Remove(current))
	h.eventuallyReady(true, "no such file")
	require.Empty(t, h.judge(minted(t, later)))
	write(t, current, []byte(secret))
	h.eventually(minted(t, secret), "")
	h.eventuallyReady(true, "0 public keys")
}

func TestChangedFilesOfPublicKeysCountWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, fresh, other := newKey(t), newKey(t), newKey(t)
	pemFile, jwksFile := filepath.Join(dir, "pem"), filepath.Join(dir, "jwks")
	write(t, pemFile, testserver.PublicPEM(t, old))
	write(t, jwksFile, set(t, map[string]ed25519.PrivateKey{"other": other}))
	h := start(t, func(c *auth.Config) { c.JWTPublicKeyFile, c.JWTJWKSFile = pemFile, jwksFile })
	require.Empty(t, h.judge(tokenOf(t, old, "")))
	require.Empty(t, h.judge(tokenOf(t, other, "other")))

	write(t, pemFile, testserver.PublicPEM(t, old, fresh))
	h.eventually(tokenOf(t, fresh, ""), "")
	write(t, pemFile, testserver.PublicPEM(t, fresh))
	h.eventually(tokenOf(t, old, ""), auth.ReasonBadSignature)
	write(t, pemFile, []byte("no key"))
	h.eventuallyReady(true, "the last good keys stay in force")
	require.Empty(t, h.judge(tokenOf(t, fresh, "")))
}

// issuer answers with a set, or with an error while it has none.
type issuer struct {
	*httptest.Server
	answer atomic.Pointer[[]byte]
	asked  atomic.Int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		if answer := i.answer.Load(); answer != nil {
			_, _ = w.Write(*answer)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) has(text []byte) { i.answer.Store(&text) }

func TestKeysFromAnAddress(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	old, fresh := newKey(t), newKey(t)
	h := start(t, func(c *auth.Config) {
		c.JWTJWKSURL, c.AllowInsecureSecret = settings.URL(i.URL+"/keys?password=hunter2"), true
		c.JWTJWKSRefresh = time.Hour // but for a key that is missed
	})
	h.eventuallyReady(false, "answered 502")
	require.Equal(t, auth.ReasonKeysUnavailable, h.judge(tokenOf(t, old, "old")), "the address is away at the start")

	i.has(set(t, map[string]ed25519.PrivateKey{"old": old}))
	h.eventually(tokenOf(t, old, "old"), "")
	h.eventuallyReady(true, "1 public keys")

	require.Equal(t, auth.ReasonUnknownKey, h.judge(tokenOf(t, fresh, "fresh")))
	i.has(set(t, map[string]ed25519.PrivateKey{"old": old, "fresh": fresh}))
	h.Want()
	h.eventually(tokenOf(t, fresh, "fresh"), "")

	for problem, answer := range map[string]string{
		"holds no public key": `{"keys":[]}`, "not a JSON Web Key Set": "<html>", "more than": strings.Repeat(" ", maxSetBytes+1),
	} {
		i.has([]byte(answer))
		h.Want()
		h.eventuallyReady(true, problem)
		require.Empty(t, h.judge(tokenOf(t, fresh, "fresh")), "the last good set stays in force")
	}
	i.Close()
	h.Want()
	h.eventuallyReady(true, "connect")
	require.Empty(t, h.judge(tokenOf(t, fresh, "fresh")))
	_, detail := h.Check()
	require.NotContains(t, detail, "hunter2")
}

// Whoever shows tokens with invented key ids must not make the edge a flood upon
// the issuer.
func TestMissedKeysAreAskedForAtAPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &Ring{wanted: make(chan struct{}, 1), leastInterval: leastInterval}
		for range 1000 {
			r.Want()
		}
		for _, want := range []time.Duration{leastInterval, time.Hour} {
			began := time.Now()
			require.True(t, r.pause(t.Context(), time.Hour))
			require.Equal(t, want, time.Since(began))
		}
	})
}

func TestASetIsNotFollowedElsewhere(t *testing.T) {
	t.Parallel()
	elsewhere := newIssuer(t)
	elsewhere.has(set(t, map[string]ed25519.PrivateKey{"forged": newKey(t)}))
	i := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	t.Cleanup(i.Close)
	h := start(t, func(c *auth.Config) { c.JWTJWKSURL, c.AllowInsecureSecret = settings.URL(i.URL), true })
	h.eventuallyReady(false, "answered 302")
	require.Zero(t, elsewhere.asked.Load())
}
