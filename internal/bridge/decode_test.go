package bridge

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestDaemonOfChannel(t *testing.T) {
	t.Parallel()
	for channel, want := range map[string]string{
		"daemon:events":                     "",
		"daemon:events:acme":                "",
		"daemon:events:events":              "", // matches daemon:*:events too
		"daemon:events:acme:events":         "",
		"daemon:daemon_session_vp_1:events": "daemon_session_vp_1",
		"daemon:a:b:events":                 "a:b",
		"daemon::events":                    "",
		"daemon:heartbeats:acme":            "",
		"other:events":                      "",
		"events":                            "",
	} {
		got, ok := daemonOfChannel(channel)
		require.Equal(t, want != "", ok, channel)
		if ok {
			require.Equal(t, want, string(got), channel)
		}
	}
}

func TestOrchestratorInDaemonID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"daemon_session_clx1_1732291200000": "clx1",
		"daemon_session_a_b_1732291200000":  "a_b",
		"daemon_session__17":                "",
		"daemon_session_clx1_":              "",
		"daemon_session_clx1":               "",
		"daemon_session_clx1_17x":           "",
		"daemon_session_17":                 "",
		"my-daemon":                         "",
		"":                                  "",
	} {
		got, ok := orchestratorInDaemonID(protocol.DaemonID(id))
		require.Equal(t, want != "", ok, id)
		require.Equal(t, want, string(got), id)
	}
}

const (
	loginDaemon = "daemon_session_vp-1_1732291200000"
	oddPayload  = `{"a":  [1, 2.0,{"<b>":"é\u00e9"}], "a":"twice" }`
)

func TestDecode(t *testing.T) {
	t.Parallel()
	body := func(daemon string) string {
		return `{"id":"e1","type":"message.received","orchestratorId":"a-channel","daemonId":"` + daemon + `","requiresAck":true,"priority":2,"payload":` + oddPayload + `}`
	}
	tests := map[string]struct {
		channel, body    string
		kind             jobKind
		orchestrator     string
		daemon           string
		reason           event.Reason
		sameBody         bool
		unchangedPayload bool
	}{
		"events channel": {
			channel: "daemon:events", body: body(""), kind: publishing, orchestrator: "a-channel", sameBody: true, unchangedPayload: true,
		},
		"events channel, addressed": {
			channel: "daemon:events:acme", body: body("d"), kind: publishing, orchestrator: "a-channel", daemon: "d", sameBody: true, unchangedPayload: true,
		},
		"daemon's channel, orchestrator in its id": {
			channel: "daemon:" + loginDaemon + ":events", body: body(loginDaemon), kind: publishing, orchestrator: "vp-1", daemon: loginDaemon, unchangedPayload: true,
		},
		"daemon's channel, daemon only in its name": {
			channel: "daemon:" + loginDaemon + ":events", body: body(""), kind: publishing, orchestrator: "vp-1", daemon: loginDaemon, unchangedPayload: true,
		},
		"daemon's channel, id to be looked up": {
			channel: "daemon:d1:events", body: body(""), kind: resolving, daemon: "d1", orchestrator: "a-channel", sameBody: true, unchangedPayload: true,
		},
		"daemon's channel, impossible daemon": {
			channel: "daemon:" + strings.Repeat("d", 200) + ":events", body: body(""), kind: burying, orchestrator: "a-channel", reason: event.ReasonInvalidField, sameBody: true, unchangedPayload: true,
		},
		"not JSON": {
			channel: "daemon:events", body: "hello", kind: burying, reason: event.ReasonNotJSON, sameBody: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := decode(heard{channel: tt.channel, body: []byte(tt.body)}, event.DefaultMaxBytes)
			require.Equal(t, tt.kind, j.kind)
			require.Equal(t, tt.orchestrator, string(j.event.OrchestratorID))
			require.Equal(t, tt.daemon, string(j.event.DaemonID))
			require.Equal(t, tt.reason, j.reason)
			require.Equal(t, tt.sameBody, tt.body == string(j.body))
			if tt.unchangedPayload {
				require.Equal(t, oddPayload, string(j.event.Payload))
			}
			if tt.kind == publishing {
				stored, err := event.Parse(j.body, event.DefaultMaxBytes)
				require.NoError(t, err)
				require.Equal(t, stored, j.event, "what is stored says what the job says")
			}
		})
	}
}

func TestReaddressedEventMayBecomeTooLarge(t *testing.T) {
	t.Parallel()
	text := `{"id":"e1","type":"a.b","orchestratorId":"x","payload":{}}`
	e, err := event.Parse([]byte(text), len(text))
	require.NoError(t, err)
	j := readdress(e, protocol.OrchestratorID(strings.Repeat("o", 100)), []byte(text), len(text))
	require.Equal(t, burying, j.kind)
	require.Equal(t, event.ReasonTooLarge, j.reason)
}

func TestInboxDropsTheOldest(t *testing.T) {
	t.Parallel()
	in := newInbox(3, 10)
	for i, tt := range []struct {
		body    string
		dropped int
	}{{"1", 0}, {"22", 0}, {"333", 0}, {"4444", 1}, {"5555555", 3}, {"a body over the whole limit", 1}} {
		require.Equal(t, tt.dropped, in.push(heard{body: []byte(tt.body)}), "push %d", i)
	}
	into := make([]heard, 5)
	var held atomic.Int64
	n, open := in.take(into, &held)
	require.Equal(t, 1, n, "one message is always held, however large")
	require.True(t, open)
	in.push(heard{})
	in.push(heard{})
	in.close()
	n, open = in.take(into[:1], &held)
	require.Equal(t, 1, n)
	require.True(t, open, "something is left")
	<-in.signal
	n, open = in.take(into[:1], &held)
	require.Equal(t, 1, n)
	require.False(t, open)
	require.Equal(t, 3, in.lenWith(&held), "what is taken out is held elsewhere, and at no time nowhere")
}
