package canary_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
)

// Nobody has a bridge publish for an orchestrator that somebody may be, and what
// a bridge publishes is read as the call that it answers.
func FuzzCalls(f *testing.F) {
	f.Add([]byte(`{"orchestrator":"_canary_edge-1","uptime":17}`))
	f.Add([]byte(`{"orchestrator":"clx1"}`))
	f.Add([]byte(`{"uptime":1e999}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := canary.ReadCall(data)
		if err != nil {
			require.Zero(t, c)
			quotetest.RequireLittle(t, data, err)
			return
		}
		require.True(t, c.Orchestrator.Reserved())
		require.NoError(t, c.Orchestrator.Validate())
		body, err := c.Event()
		require.NoError(t, err)
		again, err := canary.ReadEvent(body)
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

func FuzzEvents(f *testing.F) {
	body, err := canary.Call{Orchestrator: canary.Orchestrator("edge-1")}.Event()
	require.NoError(f, err)
	f.Add(body)
	f.Add([]byte(`{"id":"e","type":"gateway.canary","orchestratorId":"o","payload":{"orchestrator":"_canary_x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := canary.ReadEvent(data)
		quotetest.RequireLittle(t, data, err)
		require.True(t, err != nil || c.Orchestrator.Reserved())
	})
}
