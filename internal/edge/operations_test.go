package edge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// operator asks as gatewayctl does.
func (c *cluster) operator() *operation.Client {
	return &operation.Client{NC: c.nc, Timeout: testserver.Patience}
}

// Regression: two daemons with long lists of channels made an answer that NATS does
// not take, so that no operator saw any connection of the edge.
func TestDaemonsCannotHideConnectionsFromOperators(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	var types, channels []string
	for i := range 10 {
		types = append(types, fmt.Sprintf("message.kind%d", i))
	}
	for i := range 400 {
		channels = append(channels, fmt.Sprintf("%0*d", protocol.MaxIDBytes, i))
	}
	subscribe := fmt.Sprintf(`{"eventTypes":["%s"],"channelIds":["%s"]}`, strings.Join(types, `","`), strings.Join(channels, `","`))
	for _, orchestrator := range []string{"one", "two", "three"} {
		d := n.login(orchestrator, "daemon")
		d.send("subscribe", subscribe)
		d.expect(protocol.TypeSubscribed)
	}
	answers, err := c.operator().Ask(t.Context(), operation.Connections, operation.ConnectionsRequest{Limit: 100}, operation.Edge)
	require.NoError(t, err)
	var told []operation.Connection
	require.NoError(t, operation.Each(answers, func(_ operation.Member, r operation.ConnectionsReport) { told = r.Connections }))
	require.Len(t, told, 3)
	require.Len(t, told[0].Subscriptions, operation.MaxSubscriptions)
	require.Contains(t, told[0].Subscriptions[0], "… 395 more]")
}

// Regression: beyond 50 of a kind at once an act went without a line.
func TestNoOperatorActsWithoutALineInTheAuditLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, j := c.audited()
	by := operation.Act{By: "jane", Because: "a drill"}
	const acts = 100
	for i := range acts {
		_, err := c.operator().AskOne(t.Context(), operation.Note,
			operation.NoteRequest{Act: by, Done: operation.Revoked, Of: fmt.Sprint("token jti-", i)}, operation.Edge)
		require.NoError(t, err)
	}
	require.Len(t, j.Audited("reason", operation.Revoked), acts)

	d := n.login("orch", "daemon")
	ask := func(verb operation.Verb, request any) (reason string) {
		answers, err := c.operator().Ask(t.Context(), verb, request, operation.Edge)
		require.NoError(t, err)
		require.Len(t, answers.Given, 1)
		return answers.Given[0].Error
	}
	for _, nobody := range []operation.Act{{}, {By: "jane"}, {Because: "a drill"}, {By: " ", Because: "\n"}} {
		require.NotEmpty(t, ask(operation.Disconnect, operation.DisconnectRequest{Act: nobody, All: true}))
		require.NotEmpty(t, ask(operation.Drain, operation.DrainRequest{Act: nobody, Edge: n.cfg.Node(), Alone: true}))
	}
	require.NotEmpty(t, ask(operation.Disconnect, operation.DisconnectRequest{Act: by}), "nobody is named")
	require.Empty(t, j.Audited("reason", "disconnected"))
	require.Empty(t, ask(operation.Disconnect, operation.DisconnectRequest{Act: by, All: true}))
	d.expectClose(protocol.CloseSessionTerminated)
	lines := j.Audited("reason", "disconnected")
	require.Len(t, lines, 1)
	require.Equal(t, "jane", lines[0]["by"])
	require.Equal(t, "a drill", lines[0]["because"])

	by.Because = strings.Repeat("x", 1000)
	require.Empty(t, ask(operation.Drain, operation.DrainRequest{Act: by, Edge: n.cfg.Node(), Alone: true}))
	require.Empty(t, ask(operation.Undrain, operation.DrainRequest{Act: by, Edge: n.cfg.Node()}))
	for _, reason := range []string{"drained", "undrained"} {
		lines := j.Audited("reason", reason)
		require.Len(t, lines, 1, reason)
		require.Len(t, lines[0]["because"], 256, "long texts are cut")
	}
	_, err := c.operator().AskOne(t.Context(), operation.Note, operation.NoteRequest{Act: by, Done: "nonsense"}, operation.Edge)
	require.Error(t, err, "what nobody knows is not noted")
	require.Empty(t, j.Audited("reason", "nonsense"))

	key := revocation.KeyOf(revocation.Token, "jti")
	told := func(reason string) func() bool { return func() bool { return len(j.Audited("reason", reason)) == 1 } }
	c.revoke(key)
	require.Eventually(t, told("revoked"), testserver.Patience, 5*time.Millisecond)
	require.NoError(t, c.revocations().Delete(t.Context(), string(key)))
	require.Eventually(t, told("revocation_ended"), testserver.Patience, 5*time.Millisecond)
}
