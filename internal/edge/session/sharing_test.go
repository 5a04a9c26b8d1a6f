package session

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// A window of 1 MiB took 2 MiB, since the parsed payload is a copy of what the
// body has.
func TestAnEventThatWaitsIsHeldOnce(t *testing.T) {
	t.Parallel()
	body := []byte(`{"id":"e","type":"message.received","orchestratorId":"o","payload": {"a": [1, 2]} }`)
	ev, err := event.Parse(body, 1<<10)
	require.NoError(t, err)
	shared := sharing(body, ev.Payload)
	require.Equal(t, []byte(ev.Payload), shared)
	require.Equal(t, len(shared), cap(shared), "whoever appends does not write into the body")
	clear(body)
	require.Equal(t, make([]byte, len(shared)), shared, "it is the body's memory")
}
