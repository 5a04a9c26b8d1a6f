package gatewayctl

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// deadLetters is a log, and what stands in its dead letters.
type deadLetters struct {
	*testing.T
	js  jetstream.JetStream
	log *eventlog.Log
}

func newDeadLetters(t *testing.T) deadLetters {
	t.Helper()
	js := testserver.NATS(t).JetStream()
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = 2
	log, err := eventlog.Open(t.Context(), js, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return deadLetters{t, js, log}
}

func (d deadLetters) list() (letters []deadLetter) {
	d.Helper()
	require.NoError(d, (&letterSelection{all: true}).each(d.Context(), d.js, func(l deadLetter) { letters = append(letters, l) }))
	return letters
}

// stored is what the log has of an orchestrator.
func (d deadLetters) stored(orchestrator event.Token) []eventlog.Message {
	d.Helper()
	page, err := d.log.Read(d.Context(), d.log.Partition(orchestrator), orchestrator, 0, 10, 1<<20)
	require.NoError(d, err)
	return page.Messages
}

// Where MAX_EVENT_BYTES is more than its default, no larger event could be replayed.
func TestALargeEventIsReplayed(t *testing.T) {
	t.Parallel()
	d := newDeadLetters(t)
	body := `{"id":"e","type":"message.received","orchestratorId":"vp-1","payload":{"text":"` + strings.Repeat("x", 400<<10) + `"}}`
	require.NoError(t, d.log.DeadLetter(t.Context(), eventlog.DeadLetter{
		Reason: event.ReasonUndelivered, Token: "vp-1", EventID: "e", Sequence: 1, Body: []byte(body),
	}))
	_, count, err := replay(t.Context(), d.js, d.list(), "")
	require.NoError(t, err)
	require.Equal(t, 1, count)
	require.Empty(t, d.list())
	require.Len(t, d.stored("vp-1"), 1)
}

// What a daemon's own channel brings may name a channel as its orchestrator. Published
// under that, it was in the log and nobody's, and its letter was gone.
func TestAnEventOfNobodyKnowsWhoseDaemonIsReplayedToWhomTheOperatorNames(t *testing.T) {
	t.Parallel()
	d := newDeadLetters(t)
	const body = `{"id":"e","type":"message.received","orchestratorId":"channel-7","payload":{ "n": 1.0 },"requiresAck":true}`
	require.NoError(t, d.log.DeadLetter(t.Context(), eventlog.DeadLetter{
		Reason: event.ReasonUnresolvedDaemon, EventID: "e", Daemon: "nobody", Body: []byte(body),
	}))

	_, count, err := replay(t.Context(), d.js, d.list(), "")
	require.ErrorIs(t, err, errNotReplayable)
	require.ErrorContains(t, err, "--to")
	require.Zero(t, count)
	require.Empty(t, d.stored("channel-7"))
	require.Len(t, d.list(), 1, "it stays")

	_, count, err = replay(t.Context(), d.js, d.list(), "vp-1")
	require.NoError(t, err)
	require.Equal(t, 1, count)
	require.Empty(t, d.stored("channel-7"))
	require.Len(t, d.stored("vp-1"), 1)
	e, err := event.Parse(d.stored("vp-1")[0].Body, 1<<20)
	require.NoError(t, err)
	require.EqualValues(t, "nobody", e.DaemonID, "as the channel said")
	require.Equal(t, "e", e.ID)
	require.Equal(t, `{ "n": 1.0 }`, string(e.Payload))
	require.True(t, e.RequiresAck)
	require.Empty(t, d.list())
}

// Two daemons' channels may bring events under one id. The letter of the second was
// removed with that of the first, and nobody had it.
func TestTheEventOfAnotherDaemonIsNotTakenForReplayed(t *testing.T) {
	t.Parallel()
	d := newDeadLetters(t)
	const body = `{"id":"e","type":"message.received","orchestratorId":"channel-7","payload":{}}`
	for _, daemon := range []protocol.DaemonID{"first", "second"} {
		require.NoError(t, d.log.DeadLetter(t.Context(), eventlog.DeadLetter{
			Reason: event.ReasonUnresolvedDaemon, EventID: "e", Daemon: daemon, Body: []byte(body),
		}))
	}
	_, count, err := replay(t.Context(), d.js, d.list(), "vp-1")
	require.ErrorContains(t, err, "DUPLICATE_WINDOW")
	require.Equal(t, 1, count)
	require.Len(t, d.stored("vp-1"), 1)
	left := d.list()
	require.Len(t, left, 1, "what was not published stays")
	require.EqualValues(t, "second", left[0].Daemon)
}
