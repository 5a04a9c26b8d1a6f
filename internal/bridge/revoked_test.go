package bridge

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/revocation"
)

// revoked returns the entries that the bridges have written.
func (s *site) revoked() map[string]revocation.Entry {
	s.t.Helper()
	bucket, err := s.nats.JetStream().KeyValue(s.t.Context(), revocation.Bucket)
	require.NoError(s.t, err)
	found := map[string]revocation.Entry{}
	keys, err := bucket.Keys(s.t.Context())
	if err != nil {
		require.ErrorIs(s.t, err, jetstream.ErrNoKeysFound)
	}
	for _, key := range keys {
		entry, err := bucket.Get(s.t.Context(), key)
		require.NoError(s.t, err)
		found[key] = revocation.Decode(entry.Value(), entry.Created())
	}
	return found
}

func TestWhatNeolithHasRevokedIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	redis := s.publisher()
	require.NoError(t, redis.SAdd(t.Context(), revokedKey, "jti-1", "orchestrator:clx1",
		strings.Repeat("x", maxMemberBytes+1), "", "daemon:").Err())
	first := s.start(s.config()).ready()
	second := s.start(s.config()).ready()
	eventually(t, func() bool { return len(s.revoked()) == 2 }, "what was there before the bridge")
	require.Contains(t, s.revoked(), "token.jti-1")
	require.Contains(t, s.revoked(), "orchestrator.clx1")
	require.WithinDuration(t, time.Now().Add(24*time.Hour), s.revoked()["token.jti-1"].Until, time.Hour)
	for _, b := range []*bridge{first, second} {
		eventually(t, func() bool { _, detail := b.revoked.check(); return strings.HasPrefix(detail, "3 members") }, "one that is too long, and those without an id, are told of")
	}

	require.NoError(t, redis.Del(t.Context(), revokedKey).Err())
	require.NoError(t, redis.SAdd(t.Context(), revokedKey, "daemon:worker-7").Err())
	eventually(t, func() bool { return len(s.revoked()) == 3 }, "what Redis has lost stays revoked")
	for _, b := range []*bridge{first, second} {
		eventually(t, func() bool { ok, _ := b.revoked.check(); return ok }, "and all is well again")
	}
}

// Regression: a bridge believed for half the lifetime of what it had written that it
// was still there.
func TestWhatIsInTheSetIsRevokedAgainWhateverBecomesOfItsEntry(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, s.publisher().SAdd(t.Context(), revokedKey, "jti-1").Err())
	s.start(s.config()).ready()
	js := s.nats.JetStream()
	bucket, err := js.KeyValue(t.Context(), revocation.Bucket)
	require.NoError(t, err)
	status, err := bucket.Status(t.Context())
	require.NoError(t, err)
	config := status.Config()
	for name, lose := range map[string]func() error{
		"an operator takes it back": func() error { return bucket.Delete(t.Context(), "token.jti-1") },
		"the bucket is lost, and made again": func() error {
			lost := js.DeleteKeyValue(t.Context(), revocation.Bucket)
			_, err := js.CreateKeyValue(t.Context(), config)
			return errors.Join(lost, err)
		},
	} {
		eventually(t, func() bool { return len(s.revoked()) == 1 }, "taken over")
		before := s.revoked()["token.jti-1"].Until
		require.NoError(t, lose(), name)
		eventually(t, func() bool { return s.revoked()["token.jti-1"].Until.After(before) }, name)
	}
}

func TestAnEntryIsRenewedWhileItsMemberIsInTheSet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, s.publisher().SAdd(t.Context(), revokedKey, "jti-1").Err())
	cfg := s.config()
	cfg.RevocationLifetime = time.Minute
	b := s.start(cfg).ready()
	eventually(t, func() bool { return len(s.revoked()) == 1 }, "taken over")
	require.NoError(t, b.wait())

	js := s.nats.JetStream()
	r := newRevoked(s.publisher(), js, time.Minute, b.metrics, discard)
	before := s.revoked()["token.jti-1"].Until
	now := before.Add(-time.Minute)
	for _, step := range []struct {
		later   time.Duration
		renewed bool
	}{{0, false}, {20 * time.Second, false}, {35 * time.Second, true}} {
		taken, err := r.takeOver(t.Context(), "jti-1", now.Add(step.later))
		require.NoError(t, err)
		require.True(t, taken)
		require.Equal(t, step.renewed, s.revoked()["token.jti-1"].Until.After(before), step.later)
	}
	for n := range maxRevoked {
		r.known[revocation.Key(fmt.Sprint("token.", n))] = written{until: now.Add(time.Hour)}
	}
	taken, err := r.takeOver(t.Context(), "jti-2", now)
	require.NoError(t, err)
	require.False(t, taken, "there is room for so many")
}

func TestABridgeThatMayNotReadTheSetSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.publisher()
	forbid := func(rule string) {
		require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", rule).Err())
	}
	forbid("-sscan")
	b := s.start(s.config()).ready()
	eventually(t, func() bool { _, detail := b.revoked.check(); return strings.Contains(detail, "NOPERM") }, "it says what is forbidden")
	status, waitsFor := b.readyz()
	require.Equal(t, http.StatusOK, status, "events do not depend on it")
	require.Contains(t, waitsFor, "revocations")
	forbid("+sscan")
	eventually(t, func() bool { ok, _ := b.revoked.check(); return ok }, "and reads it once it may")
}
