package eventlog_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	reg := prometheus.NewPedanticRegistry()
	l, err := eventlog.Open(t.Context(), s.JetStream(), config(), quiet(), reg)
	require.NoError(t, err)
	publish(t, l, "o", "e", "x")
	_, err = l.Publish(t.Context(), "o", "e", make([]byte, 2<<20))
	require.Error(t, err)
	read(t, l, "o", 1, 1, 1)
	require.NoError(t, l.DeadLetter(t.Context(), eventlog.DeadLetter{Reason: event.ReasonNotJSON, Body: []byte("x")}))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_deadletters_total Dead letters stored by this node.
# TYPE gateway_deadletters_total counter
gateway_deadletters_total{reason="invalid_field"} 0
gateway_deadletters_total{reason="invalid_utf8"} 0
gateway_deadletters_total{reason="missing_field"} 0
gateway_deadletters_total{reason="not_json"} 1
gateway_deadletters_total{reason="refused"} 0
gateway_deadletters_total{reason="too_large"} 0
gateway_deadletters_total{reason="undelivered"} 0
gateway_deadletters_total{reason="unresolved_daemon"} 0
gateway_deadletters_total{reason="wrong_partition"} 0
gateway_deadletters_total{reason="wrong_subject"} 0
`), "gateway_deadletters_total"))
	got, err := testutil.GatherAndCount(reg, "gateway_log_requests_total")
	require.NoError(t, err)
	require.Equal(t, 45, got, "every series is there from the start")
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}
