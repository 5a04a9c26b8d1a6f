// Package rescue is for what a program does for one client in a goroutine of its
// own: a panic there would end the program for all others. Whoever recovers from
// one writes it down here, and then ends what belongs to that client alone.
//
// It is not for what is shared: where others would go on with what a panic has left
// half done, with the log, cursors or the directory, the program ends and is
// started again, which loses nothing.
package rescue

import (
	"log/slog"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

// Part is what was being done: a closed set of labels.
type Part string

// Notes are of the panics that were recovered from. A nil *Notes takes none: it
// panics again.
type Notes struct {
	logger *slog.Logger
	panics metric.Counters[Part]
}

// New returns the notes of a program that recovers in these parts.
func New(logger *slog.Logger, reg prometheus.Registerer, parts ...Part) *Notes {
	return &Notes{logger, metric.By(reg, "gateway_panics_total",
		"Panics in what was done for one client: its connection or request was ended, and a mistake in the program is to be mended.", "part", parts...)}
}

// Panicked notes what recover has returned, with the stack of the panic: it is to be
// called by the deferred function itself. attributes say for whom it was.
func (n *Notes) Panicked(part Part, value any, attributes ...any) {
	if n == nil {
		panic(value)
	}
	n.panics.Of(part).Inc()
	n.logger.Error("panic, recovered: what it was for is ended, the rest goes on",
		append([]any{"part", string(part), "panic", value, "stack", string(debug.Stack())}, attributes...)...)
}
