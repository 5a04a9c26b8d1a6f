package canary_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestEventBringsTheCallBack(t *testing.T) {
	t.Parallel()
	call := canary.Call{Orchestrator: canary.Orchestrator("edge-1"), Uptime: 90 * time.Minute}
	data, err := json.Marshal(call)
	require.NoError(t, err)
	read, err := canary.ReadCall(data)
	require.NoError(t, err)
	require.Equal(t, call, read)

	body, err := call.Event()
	require.NoError(t, err)
	back, err := canary.ReadEvent(body)
	require.NoError(t, err)
	require.Equal(t, call, back)

	e, err := event.Parse(body, event.DefaultMaxBytes)
	require.NoError(t, err, "bridge, router and edge take it for any other event")
	require.Equal(t, call.Orchestrator, e.OrchestratorID)
	require.False(t, e.RequiresAck, "it is never repeated")
}

func TestEachAnswerIsAnEventOfItsOwn(t *testing.T) {
	t.Parallel()
	call := canary.Call{Orchestrator: canary.Orchestrator("edge-1")}
	ids := map[string]bool{}
	for range 3 {
		body, err := call.Event()
		require.NoError(t, err)
		e, err := event.Parse(body, event.DefaultMaxBytes)
		require.NoError(t, err)
		ids[e.ID] = true
	}
	require.Len(t, ids, 3, "two bridges that answer the same call must not suppress each other's canary")
}

func TestOrchestratorOfAnyEdgeNameIsAnID(t *testing.T) {
	t.Parallel()
	for name, edge := range map[string]string{
		"usual":              "edge-0-1732291200000",
		"empty":              "",
		"long":               strings.Repeat("x", 300) + "-1732291200000",
		"cut in a character": strings.Repeat("é", 200),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := canary.Orchestrator(edge)
			require.NoError(t, id.Validate())
			require.True(t, id.Reserved())
			require.True(t, event.TokenOf(id).Reserved(), "its token shows it as well")
		})
	}
	a, b := canary.Orchestrator(strings.Repeat("x", 300)+"-1"), canary.Orchestrator(strings.Repeat("x", 300)+"-2")
	require.NotEqual(t, a, b, "two starts of an edge with a long name are told apart")
}

func TestChannelsAreOfOneBridgeAndNotNeoliths(t *testing.T) {
	t.Parallel()
	own := canary.Channel("bridge:events *?[")
	require.True(t, canary.IsChannel(own))
	require.Regexp(t, `^daemon:canary:[A-Za-z0-9_=-]+$`, own, "no character means anything in a pattern, or ends it like daemon:*:events")
	require.NotEqual(t, canary.Channel("bridge-1"), canary.Channel("bridge-2"))
	for _, channel := range []string{"daemon:events", "daemon:events:canary", "daemon:d1:events"} {
		require.False(t, canary.IsChannel(channel), channel)
	}
}

func TestWhatIsNoCallIsRefused(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"empty":             "",
		"no JSON":           "hello",
		"no orchestrator":   "{}",
		"a user's":          `{"orchestrator":"clx1"}`,
		"too long":          `{"orchestrator":"_canary_` + strings.Repeat("x", 200) + `"}`,
		"uptime is no time": `{"orchestrator":"_canary_e","uptime":"1s"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := canary.ReadCall([]byte(data))
			require.Error(t, err)
		})
	}
}

func TestWhatIsNoCanaryIsRefused(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no event":            "{}",
		"an event of a user":  `{"id":"e","type":"message.received","orchestratorId":"_canary_e","payload":{"orchestrator":"_canary_e"}}`,
		"addressed to a user": `{"id":"e","type":"gateway.canary","orchestratorId":"clx1","payload":{"orchestrator":"_canary_e"}}`,
		"a payload of a user": `{"id":"e","type":"gateway.canary","orchestratorId":"_canary_e","payload":{"orchestrator":"clx1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := canary.ReadEvent([]byte(body))
			require.Error(t, err)
		})
	}
}
