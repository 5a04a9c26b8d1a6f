package compose_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// Whoever NATS lets answer what it is asked (allow_responses) may ask itself in the
// name of any subject, and publish there.
func TestNobodyGainsPermissionsByAskingItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	w.administer()
	all, _ := w.client(unlimited)
	_, err := all.Publish(t.Context(), "daemon.deadletters.reason.clx1", nil)
	require.NoError(t, err)
	const purge = "$JS.API.STREAM.PURGE." + eventlog.DeadletterStream
	for _, user := range restricted {
		js, violations := w.client(user)
		own := inbox(user) + ".x"
		questions := []string{own}
		if user == "edge" {
			questions = append(questions, inbox(user)+".answers.x", "daemon.edge.a.probe", "daemon.edge.a.ack", "daemon.edge.a.cursor")
		}
		_, err := js.Conn().SubscribeSync(inbox(user) + ".>")
		require.NoError(t, err)
		if user == "edge" {
			_, err = js.Conn().SubscribeSync("daemon.edge.>")
			require.NoError(t, err)
		}
		const last = "the.last" // nobody may
		for _, question := range questions {
			require.NoError(t, js.Conn().PublishRequest(question, purge, nil))
			require.NoError(t, js.Conn().Publish(purge, nil)) // at once: another question would count as an answer
		}
		require.NoError(t, js.Conn().Publish(last, nil))
		require.Equal(t, len(questions), refusedUntil(t, violations, last)[purge], user)
	}
	letters, err := all.Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	require.EqualValues(t, 1, letters.CachedInfo().State.Msgs)
}
