package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Group runs the long-running parts of a program side by side. Each part is a
// func that blocks until its context ends; the first that fails, or returns
// although nobody asked it to, ends the context of all. Go and Wait may be
// called concurrently.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	parts  sync.WaitGroup

	first   sync.Once
	failure error // of the part that failed first; read after parts.Wait
}

// errUnasked is why a part that simply returned stops the group.
var errUnasked = errors.New("ended unasked")

// NewGroup returns a group whose parts run until ctx ends.
func NewGroup(ctx context.Context) *Group {
	g := &Group{}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

// Context ends when the group stops; context.Cause says why.
func (g *Group) Context() context.Context { return g.ctx }

// Go starts a part under a name that its error is reported by.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	g.parts.Go(func() {
		err := run(g.ctx)
		if g.ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errUnasked
		}
		g.fail(fmt.Errorf("%s: %w", name, err))
	})
}

func (g *Group) fail(err error) {
	g.first.Do(func() {
		g.failure = err
		g.cancel(err)
	})
}

// Wait blocks until every part has returned, then ends the group's context. It
// returns the first failure, or nil if the parts ended because the context
// given to NewGroup did.
func (g *Group) Wait() error {
	g.parts.Wait()
	g.cancel(nil)
	return g.failure
}
