package auth_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestScopes(t *testing.T) {
	t.Parallel()
	all := []protocol.EventType{"message.received", "channel.joined", "presence.updated", "call.started", "vp.mentioned", "system.maintenance", "task.created"}
	strictly := []protocol.EventType{"vp.mentioned", "system.maintenance"} // what takes no scope
	free := append([]protocol.EventType{"task.created"}, strictly...)      // and what nobody knows a scope of
	tests := []struct {
		name    string
		granted []string
		strict  bool
		want    []protocol.EventType
	}{
		{name: "none is unrestricted", want: all},
		{name: "empty is unrestricted", granted: []string{}, want: all},
		{name: "none, strict", strict: true, want: strictly},
		{name: "empty, strict", granted: []string{}, strict: true, want: strictly},
		{name: "everything", granted: []string{"users:read", "*"}, strict: true, want: all},
		{name: "messages", granted: []string{"messages:read"}, want: append([]protocol.EventType{"message.received"}, free...)},
		{name: "messages, strict", granted: []string{"messages:read"}, strict: true, want: append([]protocol.EventType{"message.received"}, strictly...)},
		{name: "writing is not reading", granted: []string{"messages:write", "presence:write", "calls:manage", "channels:join"}, want: free},
		{name: "admin reads nothing more", granted: []string{"admin:read", "admin:write"}, want: free},
		{name: "one for each", granted: []string{"messages:read", "channels:read", "presence:read", "calls:join"}, want: all},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			scopes := auth.NewScopes(tt.granted, tt.strict)
			var got []protocol.EventType
			for _, event := range all {
				if scopes.AllowsEvent(event) {
					got = append(got, event)
				}
				require.Equal(t, scopes.AllowsEvent(event), scopes.MissingFor(protocol.Pattern(event)) == "")
				require.Equal(t, scopes.AllowsEvent(event), scopes.MissingFor(protocol.Pattern(event.Prefix()+".*")) == "")
			}
			require.ElementsMatch(t, tt.want, got)
			require.Empty(t, scopes.MissingFor("*"), "subscribing to all is filtered, not refused")
			require.NotNil(t, scopes.List())
			require.Equal(t, len(tt.granted), len(scopes.List()))
		})
	}
}

func TestWhatScopesLeaveOfAPattern(t *testing.T) {
	t.Parallel()
	messages := []string{"messages:read"}
	for name, c := range map[string]struct {
		granted []string
		strict  bool
		pattern protocol.Pattern
		want    []protocol.Pattern
	}{
		"unrestricted":     {nil, false, "*", []protocol.Pattern{"*"}},
		"one for each":     {[]string{"messages:read", "channels:read", "presence:read", "calls:join"}, false, "*", []protocol.Pattern{"*"}},
		"messages, strict": {messages, true, "*", []protocol.Pattern{"message.*", "system.*", "vp.*"}},
		"messages": {messages, false, "*", []protocol.Pattern{
			"message.*", "system.*", "vp.*",
			"* without call.*, channel.*, message.*, presence.*, system.*, vp.*",
		}},
		"a name that is allowed":     {messages, false, "message.*", []protocol.Pattern{"message.*"}},
		"a name that is not allowed": {messages, false, "call.started", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := auth.NewScopes(c.granted, c.strict).Within(c.pattern)
			require.Equal(t, c.want, got)
			for _, p := range got {
				require.True(t, protocol.AllEvents.Covers(p))
				require.True(t, p.Covers(p))
				require.Equal(t, c.want[0] == "*", p.Covers("call.started"), p)
			}
		})
	}
}

// Else a daemon whose fresh token allows more would look as if it wanted less.
func TestMoreScopesLeaveMoreOfAPattern(t *testing.T) {
	t.Parallel()
	fewer := auth.NewScopes([]string{"messages:read"}, false).Within(protocol.AllEvents)
	more := auth.NewScopes([]string{"messages:read", "calls:join"}, false).Within(protocol.AllEvents)
	covers := func(a, b []protocol.Pattern) bool {
		return !slices.ContainsFunc(b, func(p protocol.Pattern) bool {
			return !slices.ContainsFunc(a, func(q protocol.Pattern) bool { return q.Covers(p) })
		})
	}
	require.True(t, covers(more, fewer))
	require.False(t, covers(fewer, more))
}

func TestTheMissingScopeIsNamed(t *testing.T) {
	t.Parallel()
	scopes := auth.NewScopes([]string{"messages:read"}, true)
	for pattern, want := range map[protocol.Pattern]string{
		"message.*": "", "channel.joined": "channels:read", "presence.*": "presence:read", "call.*": "calls:join", "vp.*": "", "task.*": "*",
	} {
		require.Equal(t, want, scopes.MissingFor(pattern), pattern)
	}
}

func TestScopesDoNotAllocate(t *testing.T) {
	scopes := auth.NewScopes([]string{"messages:read", "channels:read"}, true)
	require.Zero(t, testing.AllocsPerRun(100, func() { scopes.AllowsEvent("presence.updated") }))
}
