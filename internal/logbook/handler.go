package logbook

import (
	"context"
	"log/slog"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// handler writes lines to where the program writes its log, and keeps them.
type handler struct {
	book  *Book
	inner slog.Handler // as configured; its Handle writes whatever it is given
	kept  slog.Handler
	who   who
	// audit: a record of who did what, which no change keeps out.
	audit bool
}

// who a line is about, as far as it says so.
type who struct{ orchestrator, daemon string }

// aim is a change for an orchestrator or a daemon. Lines call an orchestrator by
// its id or by its token.
type aim struct {
	level                       slog.Level
	orchestrator, token, daemon string
}

func newAim(c Change) aim {
	return aim{c.Level, c.Orchestrator, string(event.TokenOf(protocol.OrchestratorID(c.Orchestrator))), c.Daemon}
}

func (a aim) at(w who) bool {
	return (a.orchestrator == "" || w.orchestrator == a.orchestrator || w.orchestrator == a.token) &&
		(a.daemon == "" || w.daemon == a.daemon)
}

// take notes what an attribute says of whom.
func (w *who) take(a slog.Attr) {
	switch a.Key {
	case "orchestrator":
		w.orchestrator = a.Value.Resolve().String()
	case "daemon":
		w.daemon = a.Value.Resolve().String()
	}
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	f := h.book.force.Load()
	if f == nil {
		return h.inner.Enabled(ctx, level)
	}
	return level >= f.lowest || h.bears(ctx, f, level)
}

// bears reports whether a line is wanted whoever it is about.
func (h *handler) bears(ctx context.Context, f *force, level slog.Level) bool {
	if f.whole != nil && level >= *f.whole {
		return true
	}
	return (f.whole == nil || h.audit) && h.inner.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if f := h.book.force.Load(); f != nil && !h.bears(ctx, f, r.Level) && !h.aimedAt(f, r) {
		return nil
	}
	_ = h.kept.Handle(ctx, r.Clone()) // into memory, which does not fail
	return h.inner.Handle(ctx, r)
}

func (h *handler) aimedAt(f *force, r slog.Record) bool {
	about := h.who
	r.Attrs(func(a slog.Attr) bool {
		about.take(a)
		return true
	})
	for _, a := range f.targets {
		if r.Level >= a.level && a.at(about) {
			return true
		}
	}
	return false
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *h
	more.inner, more.kept = h.inner.WithAttrs(attrs), h.kept.WithAttrs(attrs)
	for _, a := range attrs {
		more.who.take(a)
		if a.Key == "component" {
			more.audit = a.Value.String() == "audit"
		}
	}
	return &more
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	more := *h
	more.inner, more.kept = h.inner.WithGroup(name), h.kept.WithGroup(name)
	return &more
}
