package revocation

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Whatever somebody has written to revoke something revokes it, not for longer
// than the bucket keeps it, and takes as little memory as an edge counts on.
func FuzzEntries(f *testing.F) {
	written := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f.Add(Entry{Until: written.Add(time.Hour), By: "operator", Reason: "stolen"}.Encode())
	f.Add([]byte(`{"until":"9999-12-31T23:59:59+23:00","by":"` + strings.Repeat("x", 300) + `"}`))
	f.Add([]byte(`{"until":7,"reason":"because"}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		e := Decode(value, written)
		require.False(t, e.Until.IsZero())
		require.False(t, e.Until.After(written.Add(Lifetime)))
		require.LessOrEqual(t, len(e.By)+len(e.Reason), 2*maxTextBytes+2*len("…"))
		again := Decode(e.Encode(), written)
		require.True(t, e.Until.Equal(again.Until))
		require.Equal(t, [2]string{e.By, e.Reason}, [2]string{again.By, again.Reason})
	})
}

// Each member of Neolith's set has one key of its own that NATS takes, or none.
func FuzzMembers(f *testing.F) {
	validKey := regexp.MustCompile(`\A[-/_=.a-zA-Z0-9]+\z`) // jetstream's
	f.Add("jti-1", "daemon:jti-1")
	f.Add("orchestrator:a.b", "orchestrator:")
	f.Add("daemon:", "")
	f.Add(strings.Repeat("ü", 300), "token.x")
	f.Fuzz(func(t *testing.T, one, other string) {
		key := KeyOfMember(one)
		if one == "" || one == "daemon:" || one == "orchestrator:" {
			require.False(t, key.Valid())
			return
		}
		require.True(t, key.Valid())
		require.Regexp(t, validKey, string(key))
		require.False(t, strings.HasSuffix(string(key), "."))
		require.LessOrEqual(t, len(key), len("orchestrator.")+maxKeyBytes)
		if one != other {
			require.NotEqual(t, key, KeyOfMember(other))
		}
		if id := string(event.TokenOf(one)); len(id) <= maxKeyBytes && !strings.Contains(one, ":") {
			require.Equal(t, KeyOf(Token, one), key)
		}
	})
}
