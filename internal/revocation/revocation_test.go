package revocation

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var written = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func TestKeys(t *testing.T) {
	t.Parallel()
	for member, want := range map[string]Key{
		"6f9619ff-8b86-d011": "token.6f9619ff-8b86-d011",
		"orchestrator:clx1":  "orchestrator.clx1",
		"daemon:worker 7":    "daemon.worker=207",
		"user:7":             "token.user=3A7",
		"":                   "token.",
	} {
		require.Equal(t, want, KeyOfMember(member), member)
	}
	require.Equal(t, KeyOf(Daemon, "a"), KeyOfMember("daemon:a"))
	require.NotEqual(t, KeyOf(Daemon, "a"), KeyOf(Orchestrator, "a"))

	long := strings.Repeat("ü", 500)
	require.Less(t, len(KeyOf(Token, long)), 100)
	require.NotEqual(t, KeyOf(Token, long), KeyOf(Token, long+"x"))
	for key, want := range map[Key]Kind{
		KeyOf(Token, long): Token, "daemon.x": Daemon, "orchestrator.x": Orchestrator,
		"": "", "x": "", "daemon": "", "daemon.": "", "tokens.x": "",
	} {
		require.Equal(t, want, key.kind(), key)
	}
}

// Whoever writes an entry by hand wants somebody out: what is wrong with it must
// not let him in.
func TestEntriesWrittenByHand(t *testing.T) {
	t.Parallel()
	end := written.Add(time.Hour)
	for name, test := range map[string]struct {
		value string
		until time.Time
	}{
		"as it is to be":    {string(Entry{Until: end, By: "Neolith", Reason: "logged out"}.Encode()), end},
		"with the end only": {`{"until":"2026-11-22T11:00:00Z"}`, end},
		"empty":             {``, written.Add(Lifetime)},
		"a word":            {`stolen`, written.Add(Lifetime)},
		"no end":            {`{"reason":"stolen"}`, written.Add(Lifetime)},
		"another time":      {`{"until":"tomorrow"}`, written.Add(Lifetime)},
		"too late an end":   {`{"until":"2099-01-01T00:00:00Z"}`, written.Add(Lifetime)},
		"already over":      {`{"until":"2026-11-22T09:00:00Z"}`, written.Add(-time.Hour)},
	} {
		require.True(t, test.until.Equal(Decode([]byte(test.value), written).Until), name)
	}
}
