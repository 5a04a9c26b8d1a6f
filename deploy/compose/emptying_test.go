package compose_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// kept are the gateway's streams.
var kept = slices.DeleteFunc(slices.Clone(streams), func(name string) bool {
	return name == "DAEMON_GATEWAY_RESERVATION" || name == "SOMEBODY_ELSES"
})

// neighbours are what stands beside that which somebody may publish.
var neighbours = []string{
	"daemon.events.0.clx2", "daemon.deadletters.not_json.clx2", "daemon.unresolved.clx2", "daemon.traces.clx2.e1",
	"$KV.gateway_checkpoints.1", "$KV.gateway_revocations.token.b", "$KV.daemon_cursors_0.clx2",
}

// isKept reports whether the gateway stores what is published there.
func isKept(subject string) bool {
	for _, prefix := range []string{"$KV.", "daemon.events.", "daemon.deadletters.", "daemon.unresolved.", "daemon.traces."} {
		if strings.HasPrefix(subject, prefix) {
			return true
		}
	}
	return false
}

// state is what each of the gateway's streams holds.
func state(t *testing.T, all jetstream.JetStream) map[string]jetstream.StreamState {
	t.Helper()
	states := map[string]jetstream.StreamState{}
	for _, name := range kept {
		stream, err := all.Stream(t.Context(), name)
		require.NoError(t, err)
		states[name] = stream.CachedInfo().State
	}
	return states
}

// Regression: whoever may write one key of a bucket could empty it with the header
// Nats-Rollup, which NATS judges by the stream and not by the user: an edge the
// bucket that says how many partitions there are.
func TestNoUserCanEmptyABucketOrAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	w.administer()
	all, _ := w.client(unlimited)
	for _, subject := range slices.AppendSeq(slices.Clone(neighbours), maps.Keys(published)) {
		if !isKept(subject) {
			continue
		}
		_, err := all.Publish(t.Context(), subject, []byte("kept"))
		require.NoError(t, err, subject)
	}
	before := state(t, all)
	for _, user := range restricted {
		js, violations := w.client(user)
		for subject, users := range published {
			if !isKept(subject) {
				continue
			}
			for _, rollup := range []string{jetstream.MsgRollupAll, jetstream.MsgRollupSubject} {
				m := &nats.Msg{Subject: subject, Header: nats.Header{jetstream.MsgRollup: {rollup}}}
				if !slices.Contains(users, user) {
					require.NoError(t, js.Conn().PublishMsg(m))
					requireViolation(t, violations, subject)
					continue
				}
				_, err := js.PublishMsg(t.Context(), m)
				require.ErrorContains(t, err, "rollup not permitted", "%s: %s with %s", user, subject, rollup)
			}
		}
		for _, stream := range kept {
			for _, request := range []string{server.JSApiStreamPurgeT, server.JSApiMsgDeleteT, server.JSApiStreamDeleteT} {
				if slices.Contains(permitted(request, stream), user) {
					require.Contains(t, [][]string{
						{"bridge", server.JSApiStreamPurgeT, eventlog.UnresolvedStream}, {"operator", server.JSApiMsgDeleteT, eventlog.DeadletterStream},
					}, []string{user, request, stream})
					continue
				}
				subject := fmt.Sprintf(request, stream)
				require.NoError(t, js.Conn().Publish(subject, []byte(`{"seq":1}`)))
				requireViolation(t, violations, subject)
			}
		}
	}
	require.Equal(t, before, state(t, all))
}

// Messages go by the limits of their stream, or by a purge as the user backup; of dead
// letters, which are replayed or dropped one by one, an operator deletes single ones.
func TestNobodyDeletesSingleMessagesButDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	w.administer()
	backup, _ := w.client("backup")
	for _, name := range kept {
		stream, err := backup.Stream(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, name != eventlog.DeadletterStream, stream.CachedInfo().Config.DenyDelete, name)
		require.False(t, stream.CachedInfo().Config.AllowRollup, name)
		require.NoError(t, stream.Purge(t.Context()))
	}
}
