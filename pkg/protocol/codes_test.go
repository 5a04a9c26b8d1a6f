package protocol_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestCloseCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[protocol.CloseCode]struct {
		name      string
		reconnect protocol.Reconnect
	}{
		1000: {"NORMAL", protocol.ReconnectBackoff},
		1001: {"GOING_AWAY", protocol.ReconnectBackoff},
		1002: {"PROTOCOL_ERROR", protocol.ReconnectBackoff},
		1003: {"UNSUPPORTED_DATA", protocol.ReconnectBackoff},
		1006: {"ABNORMAL", protocol.ReconnectBackoff},
		1007: {"INVALID_UTF8", protocol.ReconnectBackoff},
		1009: {"MESSAGE_TOO_LARGE", protocol.ReconnectBackoff},
		4001: {"AUTH_FAILED", protocol.ReconnectNever},
		4002: {"AUTH_TIMEOUT", protocol.ReconnectBackoff},
		4003: {"TOKEN_EXPIRED", protocol.ReconnectFreshToken},
		4004: {"RATE_LIMITED", protocol.ReconnectSlowly},
		4005: {"INSUFFICIENT_SCOPE", protocol.ReconnectNever},
		4006: {"SESSION_TERMINATED", protocol.ReconnectBackoff},
	} {
		require.Equal(t, want.name, code.String())
		require.Equal(t, want.reconnect, code.Reconnect(), code)
		require.True(t, code.Known())
		require.LessOrEqual(t, len(code.String()), protocol.MaxCloseReasonBytes)
	}
	require.Equal(t, "CLOSE_4999", protocol.CloseCode(4999).String())
	require.False(t, protocol.CloseCode(4999).Known())
	require.Equal(t, protocol.ReconnectBackoff, protocol.CloseCode(4999).Reconnect())
}

func TestAuthErrorsAndTheirCloseCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[protocol.AuthErrorCode]protocol.CloseCode{
		"AUTH_FAILED": 4001, "TOKEN_EXPIRED": 4003, "INSUFFICIENT_SCOPE": 4005, "MAX_CONNECTIONS": 4006, "UNHEARD_OF": 4001,
	} {
		require.Equal(t, want, code.CloseCode(), code)
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, valid := range []protocol.Pattern{"*", "message.*", "message.received", "a-b.c_d", "A1.b2"} {
		require.NoError(t, valid.Validate(), valid)
	}
	for _, bad := range []protocol.Pattern{"", "message", "*.*", "*.received", "message.", ".x", "message.re*", "a.b.c", "a.b.*", "a b.c", "ü.b", ".*",
		protocol.Pattern(strings.Repeat("x", 127) + ".*"), protocol.Pattern(strings.Repeat("x", 127) + ".y")} {
		require.Error(t, bad.Validate(), bad)
	}
	tests := []struct {
		pattern protocol.Pattern
		event   protocol.EventType
		want    bool
	}{
		{"*", "message.received", true},
		{"message.*", "message.received", true},
		{"message.*", "messages.received", false},
		{"message.*", "message2.received", false},
		{"message.received", "message.received", true},
		{"message.received", "message.receive", false},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, tt.pattern.Matches(tt.event), "%s %s", tt.pattern, tt.event)
	}
}

func TestPatternCoversWhatItMatches(t *testing.T) {
	t.Parallel()
	patterns := []protocol.Pattern{"*", "message.*", "messages.*", "message.received", "message.sent"}
	events := []protocol.EventType{"message.received", "message.sent", "message.other", "messages.received", "call.started"}
	for _, p := range patterns {
		for _, q := range patterns {
			every := true
			for _, e := range events {
				every = every && (!q.Matches(e) || p.Matches(e))
			}
			require.Equal(t, every, p.Covers(q), "%s covers %s", p, q)
		}
	}
}

func TestSubscriptionsAndChannels(t *testing.T) {
	t.Parallel()
	s := protocol.Subscription{Pattern: "message.*", Channels: []string{"c1", "c2"}}
	require.True(t, s.Matches("message.sent", "c1"))
	require.True(t, s.Matches("message.sent", ""), "an event without a channel always passes")
	require.False(t, s.Matches("message.sent", "c3"))
	require.False(t, s.Matches("call.started", "c1"))

	everywhere := protocol.Subscription{Pattern: "message.*"}
	one := protocol.Subscription{Pattern: "message.sent", Channels: []string{"c1"}}
	require.True(t, everywhere.Covers(s))
	require.False(t, s.Covers(everywhere))
	require.True(t, s.Covers(one))
	require.False(t, one.Covers(s))
	require.False(t, s.Covers(protocol.Subscription{Pattern: "message.sent", Channels: []string{"c1", "c3"}}))
	require.False(t, s.Covers(protocol.Subscription{Pattern: "*", Channels: []string{"c1"}}))
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for id, problem := range map[string]string{"": "empty", strings.Repeat("x", 129): "129 bytes", "\xff": "UTF-8", "x": "", strings.Repeat("x", 128): ""} {
		for _, err := range []error{protocol.OrchestratorID(id).Validate(), protocol.DaemonID(id).Validate()} {
			if problem == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, problem)
			}
		}
	}
	require.Equal(t, "message", protocol.EventType("message.received").Prefix())
}

func TestReservedIDsAreTheGatewaysOwn(t *testing.T) {
	t.Parallel()
	require.True(t, protocol.OrchestratorID(protocol.ReservedPrefix+"edge-1").Reserved())
	for _, id := range []protocol.OrchestratorID{"", "clx1", "canary", "_canary", "x_canary_"} {
		require.False(t, id.Reserved(), id)
	}
}
