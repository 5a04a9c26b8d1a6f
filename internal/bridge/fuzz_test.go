package bridge

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// fuzzMaxBytes is small, so that texts of the fuzzer reach it.
const fuzzMaxBytes = 2 << 10

// requireSound: what goes into the log is as good as it is said to be, and what
// does not is refused for one of the reasons there are, without repeating it.
func requireSound(t *testing.T, j job, sent []byte) {
	t.Helper()
	switch j.kind {
	case publishing:
		e, err := event.ParseInPlace(j.body, fuzzMaxBytes)
		require.NoError(t, err)
		require.False(t, e.OrchestratorID.Reserved())
		e.LeftOut = j.event.LeftOut
		require.Equal(t, j.event.OrchestratorID, e.OrchestratorID)
		require.Equal(t, j.event.DaemonID, e.DaemonID)
		require.Equal(t, j.event.ID, e.ID)
		require.Equal(t, string(j.event.Payload), string(e.Payload))
	case resolving:
		require.NotEmpty(t, j.daemon())
	case burying:
		require.Contains(t, rejectReasons, j.reason)
		require.NotEmpty(t, j.detail)
		quotetest.RequireLittle(t, sent, errors.New(j.detail))
	default:
		t.Fatalf("a job of kind %d", j.kind)
	}
	require.NotEmpty(t, j.lane(1))
	require.LessOrEqual(t, len(j.body), len(sent)+fuzzMaxBytes)
}

// An element of Neolith's lists belongs to whom the list's name or the element's
// daemon says, and to nobody else, whatever the element claims.
func FuzzListElements(f *testing.F) {
	const body = `{"id":"e","type":"a.b","orchestratorId":"o","daemonId":"d","payload":{"a":[1]},"requiresAck":true}`
	f.Add("o", []byte(body), false)
	f.Add("d", []byte(body), false)
	f.Add("daemon_session_o_17", []byte(`{"id":"e","type":"a.b","payload":{}}`), false)
	f.Add("o", []byte(`{"messageId":"m","channelId":"c","authorId":"a","content":"x","createdAt":"2026-11-22T10:00:00Z"}`), true)
	f.Add("_canary_x", []byte(`{"id":"e","type":"a.b","orchestratorId":7,"payload":{}}`), true)
	f.Fuzz(func(t *testing.T, name string, body []byte, queue bool) {
		l := list{prefix: listPrefix, name: name}
		if queue {
			l.prefix = queuePrefix
		}
		j := decodeListed(l, body, fuzzMaxBytes)
		requireSound(t, j, append([]byte(name+" "), body...))
		again := decodeListed(l, body, fuzzMaxBytes)
		require.Equal(t, j.kind, again.kind)
		require.Equal(t, j.event.ID, again.event.ID, "read again it is the same event")
		if j.kind != publishing {
			return
		}
		inDaemon, _ := orchestratorInDaemonID(j.event.DaemonID)
		switch {
		case queue:
			require.Equal(t, name, string(j.event.OrchestratorID))
		default:
			require.Contains(t, []protocol.OrchestratorID{protocol.OrchestratorID(name), inDaemon}, j.event.OrchestratorID)
		}
	})
}

// What is heard on a daemon's channel is that daemon's, whatever it claims.
func FuzzHeard(f *testing.F) {
	const body = `{"id":"e","type":"a.b","orchestratorId":"o","payload":{"a":[1]}}`
	f.Add("daemon:events", []byte(body))
	f.Add("daemon:events:org", []byte(body))
	f.Add("daemon:daemon_session_o_17:events", []byte(body))
	f.Add("daemon:d:events", []byte(`{"id":"e","type":"a.b","orchestratorId":"o","daemonId":"other","payload":{}}`))
	f.Add("elsewhere", []byte(`{"id":7}`))
	f.Fuzz(func(t *testing.T, channel string, body []byte) {
		if canary.IsChannel(channel) {
			return // what is heard there is not to be believed in any other way
		}
		j := decode(heard{channel: channel, body: body}, fuzzMaxBytes)
		requireSound(t, j, append([]byte(channel+" "), body...))
		if _, ok := daemonOfChannel(channel); ok && j.kind == publishing {
			owner, ok := orchestratorInDaemonID(j.event.DaemonID)
			require.True(t, ok)
			require.Equal(t, owner, j.event.OrchestratorID)
		}
	})
}

// A session in Redis says whose a daemon is only if it is that daemon's.
func FuzzSessions(f *testing.F) {
	f.Add([]byte(`{"orchestratorId":"o","daemonId":"d","lastHeartbeat":17}`), "d")
	f.Add([]byte(`{"orchestratorId":"o","daemonId":"other"}`), "d")
	f.Add([]byte(`{"orchestratorId":""}`), "d")
	f.Fuzz(func(t *testing.T, text []byte, id string) {
		owner, ok := ownerIn(text, protocol.DaemonID(id))
		if !ok {
			require.Empty(t, owner)
			return
		}
		require.NoError(t, owner.Validate())
		if other, ok := ownerIn(text, protocol.DaemonID(id+"x")); ok {
			require.Equal(t, owner, other, "it names no daemon")
		}
	})
}
