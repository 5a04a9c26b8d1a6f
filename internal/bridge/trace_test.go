package bridge

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// storedOf returns the first event of an orchestrator in the log, once it is there.
func (s *site) storedOf(orchestrator string) (found *jetstream.RawStreamMsg) {
	s.t.Helper()
	token := event.TokenOf(orchestrator)
	p := event.PartitionOf(token, s.config().Log.Partitions)
	eventually(s.t, func() bool {
		stream, err := s.nats.JetStream().Stream(s.t.Context(), event.StreamName(p))
		if err != nil {
			return false
		}
		found, err = stream.GetLastMsgForSubject(s.t.Context(), event.Subject(p, token))
		return err == nil
	}, "the event is stored")
	return found
}

func traced(orchestrator, traceparent string) string {
	text := eventJSON(orchestrator, 1)
	return text[:len(text)-1] + `,"traceparent":"` + traceparent + `","tracestate":"vendor=1"}`
}

func TestWithoutACollectorAnEventIsStoredWithoutAnythingOfTraces(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config()).ready()
	publish(t, s.publisher(), eventsChannel, traced("vp", traceparent))
	m := s.storedOf("vp")
	require.Equal(t, traced("vp", traceparent), string(m.Data))
	for name := range m.Header {
		require.True(t, strings.HasPrefix(name, "Nats-"), name)
	}
}

func TestAnEventIsStoredInTheTraceOfItsPublisher(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	collector := testserver.NewCollector(t)
	cfg := s.config()
	cfg.Spans.Endpoint = settings.URL(collector.URL)
	b := s.start(cfg).ready()
	redis := s.publisher()
	publish(t, redis, eventsChannel, traced("sampled", traceparent))
	publish(t, redis, eventsChannel, traced("unsampled", traceparent[:53]+"00"))
	publish(t, redis, eventsChannel, traced("malformed", "00-x"))
	header := s.storedOf("sampled").Header
	for _, other := range []string{"unsampled", "malformed"} {
		s.storedOf(other)
	}
	b.stop()
	<-b.done
	require.NoError(t, b.err)
	spans := collector.Spans("")
	require.Len(t, spans, 1)
	require.Equal(t, "stored", spans[0].Name)
	require.Equal(t, "00f067aa0ba902b7", spans[0].Parent)
	require.Equal(t, "00-4bf92f3577b34da6a3ce929d0e0e4736-"+spans[0].ID+"-01", header.Get("traceparent"))
	require.Equal(t, "vendor=1", header.Get("tracestate"))
	require.Equal(t, traceparent[:53]+"00", s.storedOf("unsampled").Header.Get("traceparent"), "it is passed on")
	require.Empty(t, s.storedOf("malformed").Header.Get("traceparent"))
}

func TestAnEventOverHTTPIsInTheTraceOfItsRequestOrItsOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	collector := testserver.NewCollector(t)
	cfg := withIntake(t, s.config())
	cfg.Spans.Endpoint = settings.URL(collector.URL)
	const own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	b := s.start(cfg).ready()
	request := b.request(strings.NewReader("[" + eventJSON("requests", 1) + "," + traced("own", own) + "]"))
	request.Header.Set("traceparent", traceparent)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, traceparent[:36], s.storedOf("requests").Header.Get("traceparent")[:36])
	require.Equal(t, eventJSON("requests", 1), string(s.storedOf("requests").Data), "byte for byte")
	require.Equal(t, own[:36], s.storedOf("own").Header.Get("traceparent")[:36])
}
