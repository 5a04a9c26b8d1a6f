package rescue_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/rescue"
)

func breaks(notes *rescue.Notes) {
	defer func() {
		if p := recover(); p != nil {
			notes.Panicked("reading", p, "session", "s-1")
		}
	}()
	var nobody *slog.Logger
	nobody.Info("nil")
}

func TestAPanicIsCountedAndWrittenDownWithItsStack(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	reg := prometheus.NewPedanticRegistry()
	notes := rescue.New(slog.New(slog.NewTextHandler(&text, nil)), reg, "reading", "writing")
	breaks(notes)
	for _, part := range []string{"level=ERROR", "part=reading", "nil pointer dereference", "rescue_test.breaks", "session=s-1"} {
		require.Contains(t, text.String(), part)
	}
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_panics_total Panics in what was done for one client: its connection or request was ended, and a mistake in the program is to be mended.
# TYPE gateway_panics_total counter
gateway_panics_total{part="reading"} 1
gateway_panics_total{part="writing"} 0
`)))
}

func TestWhereNobodyTakesNotesAPanicIsNotLost(t *testing.T) {
	t.Parallel()
	require.Panics(t, func() { breaks(nil) })
}
