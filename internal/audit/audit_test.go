package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// book is a log, and the lines that it has written.
type book struct {
	*Log
	text bytes.Buffer
	reg  *prometheus.Registry
}

func newBook() *book {
	b := &book{reg: prometheus.NewPedanticRegistry()}
	b.Log = New(slog.New(slog.NewJSONHandler(&b.text, nil)).With("node", "edge-1"), b.reg)
	return b
}

func (b *book) lines(t *testing.T) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(b.text.String()) {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m))
		delete(m, "time")
		list = append(list, m)
	}
	return list
}

func TestALineSaysWhoWhatWhyAndWhere(t *testing.T) {
	t.Parallel()
	b := newBook()
	b.Write(TokenRefused, "expired", "address", "192.0.2.1", "claimed_orchestrator", "orch")
	require.Equal(t, []map[string]any{{
		"level": "INFO", "msg": "audit", "node": "edge-1", "component": "audit", "act": "token_refused", "reason": "expired",
		"address": "192.0.2.1", "claimed_orchestrator": "orch",
	}}, b.lines(t))
	(*Log)(nil).Write(TokenRefused, "expired")
}

// What one kind of line is too much of keeps no other out.
func TestAFloodIsCountedAndNotWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		for range 1000 {
			b.Write(ConnectionRefused, "rate")
		}
		b.Write(ConnectionRefused, "address")
		require.Len(t, b.lines(t), burst+1)
		require.NoError(t, testutil.GatherAndCompare(b.reg, strings.NewReader(`
# HELP gateway_audit_records_total What was to be written into the audit log: written, or suppressed because there was too much of the kind.
# TYPE gateway_audit_records_total counter
gateway_audit_records_total{act="connection_refused",outcome="suppressed"} 950
gateway_audit_records_total{act="connection_refused",outcome="written"} 51
gateway_audit_records_total{act="event_refused",outcome="suppressed"} 0
gateway_audit_records_total{act="event_refused",outcome="written"} 0
gateway_audit_records_total{act="operator_acted",outcome="suppressed"} 0
gateway_audit_records_total{act="operator_acted",outcome="written"} 0
gateway_audit_records_total{act="over_limit",outcome="suppressed"} 0
gateway_audit_records_total{act="over_limit",outcome="written"} 0
gateway_audit_records_total{act="request_refused",outcome="suppressed"} 0
gateway_audit_records_total{act="request_refused",outcome="written"} 0
gateway_audit_records_total{act="session_began",outcome="suppressed"} 0
gateway_audit_records_total{act="session_began",outcome="written"} 0
gateway_audit_records_total{act="session_ended",outcome="suppressed"} 0
gateway_audit_records_total{act="session_ended",outcome="written"} 0
gateway_audit_records_total{act="token_refused",outcome="suppressed"} 0
gateway_audit_records_total{act="token_refused",outcome="written"} 0
`)))
		time.Sleep(time.Second) // the bubble's time
		b.Write(ConnectionRefused, "rate")
		require.Equal(t, 950.0, b.lines(t)[burst+1]["suppressed"])
	})
}

func TestOnlySoManyReasonsAreRemembered(t *testing.T) {
	t.Parallel()
	b := newBook()
	for i := range 2 * maxReasons {
		b.Write(TokenRefused, fmt.Sprint(i))
	}
	require.Len(t, b.lines(t), maxReasons)
	require.Len(t, b.kinds, maxReasons)
}

func TestWhatAnOperatorAsksForIsNeverLeftOut(t *testing.T) {
	t.Parallel()
	b := newBook()
	for range 10 * burst {
		b.Write(OperatorActed, "drained") // whatever else has used up the kind
	}
	before := len(b.lines(t))
	for range 10 * burst {
		b.Acted("drained", "by", "jane")
	}
	require.Len(t, b.lines(t), before+10*burst)
}

func TestWhatWasLeftOutIsToldWithinAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = b.Run(ctx)
		}()
		for range burst + 7 {
			b.Write(TokenRefused, "expired")
		}
		time.Sleep(tellInterval) // the bubble's time
		synctest.Wait()
		last := b.lines(t)[burst]
		require.Equal(t, "audit lines left out", last["msg"])
		require.Equal(t, 7.0, last["suppressed"])
		for range burst + 3 {
			b.Write(TokenRefused, "expired")
		}
		cancel()
		<-ended
		all := b.lines(t)
		require.Equal(t, 3.0, all[len(all)-1]["suppressed"], "a stop forgets nothing")
	})
}
