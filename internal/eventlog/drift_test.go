package eventlog_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// freshLog returns JetStream with a log on it.
func freshLog(t *testing.T, cfg eventlog.Config) jetstream.JetStream {
	t.Helper()
	js := testserver.NATS(t).JetStream()
	open(t, js, cfg)
	return js
}

func driftsOf(t *testing.T, js jetstream.JetStream, cfg eventlog.Config) (all []eventlog.Drift) {
	t.Helper()
	held, err := eventlog.Inspect(t.Context(), js, cfg)
	require.NoError(t, err)
	for _, h := range held {
		all = append(all, h.Drifts...)
	}
	return all
}

// What Open makes is what Inspect expects, whatever the configuration.
func TestStreamsThatWereMadeHaveNotDrifted(t *testing.T) {
	t.Parallel()
	for _, cfg := range []eventlog.Config{config(), config(func(c *eventlog.Config) {
		c.EventRetention, c.EventsPerOrchestrator, c.DuplicateWindow, c.DeadletterRetention, c.CursorPercent = time.Hour, 7, time.Second, time.Minute, 50
	})} {
		js := freshLog(t, cfg)
		require.Empty(t, driftsOf(t, js, cfg))
	}
}

func TestAStreamThatSomebodyChangedIsNamedWithWhatItShouldBe(t *testing.T) {
	t.Parallel()
	cfg := config()
	js := freshLog(t, cfg)
	stream, err := js.Stream(t.Context(), event.StreamName(1))
	require.NoError(t, err)
	changed := stream.CachedInfo().Config
	changed.MaxAge, changed.AllowDirect, changed.MaxMsgs = time.Hour, false, 10
	_, err = js.UpdateStream(t.Context(), changed)
	require.NoError(t, err)
	require.NoError(t, js.DeleteStream(t.Context(), eventlog.DeadletterStream))
	require.ElementsMatch(t, []eventlog.Drift{
		{Stream: event.StreamName(1), Setting: "max_age", Have: "1h0m0s", Want: "168h0m0s", Mended: true},
		{Stream: event.StreamName(1), Setting: "allow_direct", Have: "false", Want: "true", Mended: true},
		{Stream: event.StreamName(1), Setting: "max_msgs", Have: "10", Want: "-1"},
		{Stream: eventlog.DeadletterStream, Setting: "stream", Have: "missing", Want: "there", Mended: true},
	}, driftsOf(t, js, cfg))
	open(t, js, cfg, eventlog.Manage())
	require.Equal(t, []eventlog.Drift{{Stream: event.StreamName(1), Setting: "max_msgs", Have: "10", Want: "-1"}},
		driftsOf(t, js, cfg), "what is told to be mended by who manages streams is")
}
