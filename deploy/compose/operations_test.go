package compose_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// Each node answers the operator with its own user's permissions, gatewayctl and
// the nats command line tool.
func TestTheOperatorIsAnsweredByEachTier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	w.administer()
	for _, tier := range operation.Tiers {
		w.start(string(tier), restrictedly)
	}
	nc := testserver.Connect(t, w.url("operator"), nats.CustomInboxPrefix(operation.InboxPrefix))
	client := operation.Client{NC: nc, Timeout: patience}
	require.Eventually(t, func() bool {
		answers, err := client.Ask(t.Context(), operation.Nodes, struct{}{}, operation.Tiers...)
		ready := map[operation.Tier]bool{}
		return err == nil && operation.Each(answers, func(of operation.Member, report operation.NodeReport) {
			ready[of.Tier] = report.Ready
		}) == nil && ready[operation.Edge] && ready[operation.Router] && ready[operation.Bridge]
	}, patience, 20*time.Millisecond, w.told)

	inbox := operation.InboxPrefix + ".answers.nats"
	pongs := testserver.Listen(t, nc, inbox)
	require.NoError(t, nc.PublishRequest("$SRV.PING", inbox, nil))
	found := map[string]string{}
	for len(found) < len(operation.Tiers) {
		m, err := pongs.NextMsg(patience)
		require.NoError(t, err)
		var pong micro.Ping
		require.NoError(t, json.Unmarshal(m.Data, &pong))
		found[pong.Name] = pong.Metadata["node"]
	}
	require.Equal(t, map[string]string{"gateway-edge": "edge", "gateway-router": "router", "gateway-bridge": "bridge"}, found)
}
