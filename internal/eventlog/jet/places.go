package jet

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
)

// places bounds the answers of a kind that are under way on the connection. A
// stream that was silent when it was asked last gets none of them, and is asked
// one question at a time: it would keep the places from all others, a patience
// each.
type places struct {
	free chan struct{} // holds a token for each answer under way

	mu     sync.Mutex
	silent map[string]chan struct{} // holds a token while the stream is asked
}

func newPlaces(n int) *places {
	return &places{free: make(chan struct{}, n), silent: make(map[string]chan struct{})}
}

// take waits until the stream may be asked. The caller says how that ended.
func (p *places) take(ctx context.Context, stream string) (done func(error), err error) {
	turn := p.turn(stream)
	if turn == nil {
		if err := enter(ctx, p.free); err != nil {
			return nil, err
		}
		if turn = p.turn(stream); turn == nil {
			return func(err error) { p.note(stream, err); <-p.free }, nil
		}
		<-p.free // it has turned out to be silent meanwhile
	}
	if err := enter(ctx, turn); err != nil {
		return nil, err
	}
	return func(err error) { p.note(stream, err); <-turn }, nil
}

func enter(ctx context.Context, queue chan struct{}) error {
	select {
	case queue <- struct{}{}:
		return nil
	case <-ctx.Done():
		return Classify(ctx.Err())
	}
}

// turn returns where those who ask a silent stream queue up; nil: it answers, as
// far as is known.
func (p *places) turn(stream string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent[stream]
}

// note remembers whether the stream has answered.
func (p *places) note(stream string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, nats.ErrNoResponders):
		delete(p.silent, stream)
	case errors.Is(err, errSilent) && p.silent[stream] == nil:
		p.silent[stream] = make(chan struct{}, 1)
	}
}
