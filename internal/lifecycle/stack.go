// Package lifecycle starts and stops the parts of a program in order: a Stack
// undoes what was set up, last in first out, and a Group runs the parts that
// run for long and stops all when one fails.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Stack is the teardown of a program, or of a setup that failed half way. The
// zero Stack is ready for use, and its methods may be called concurrently.
type Stack struct {
	mu      sync.Mutex
	steps   []step
	stopped bool
	done    chan struct{} // closed when the steps of the first Stop have run
	err     error         // of the first Stop; valid once done is closed
}

type step struct {
	name string
	stop func(context.Context) error
}

// Push registers how to undo what has just been set up. It must not be called
// after Stop: the step would never run.
func (s *Stack) Push(name string, stop func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		panic("lifecycle: Push of " + name + " after Stop")
	}
	s.steps = append(s.steps, step{name, stop})
}

// Stop runs all steps, the last one pushed first, and returns their errors
// joined, each under its step's name. A failing step keeps no other from
// running. ctx bounds each step as far as the step heeds it. A second call
// waits for the first and returns the same error, or why its ctx ended.
func (s *Stack) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopped
	if first {
		s.stopped = true
		s.done = make(chan struct{})
	}
	s.mu.Unlock()
	if !first {
		select {
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer close(s.done)
	s.err = s.runSteps(ctx)
	return s.err
}

// runSteps may read the steps without the mutex: no Push comes after stopped.
func (s *Stack) runSteps(ctx context.Context) error {
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].run(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	s.steps = nil
	return errors.Join(errs...)
}

// run turns a panic into an error, so that the other steps still run.
func (s step) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("stop %s: panic: %v", s.name, p)
		}
	}()
	if err := s.stop(ctx); err != nil {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	return nil
}
