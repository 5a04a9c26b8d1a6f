package traffic

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Wait waits for a time, or until ctx ends.
func Wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Until asks again and again whether something holds, and waits until it does.
// What it is stands in the error when ctx ends before.
func Until(ctx context.Context, what string, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		switch {
		case ok && err == nil:
			return nil
		case ctx.Err() != nil:
			return errors.Join(fmt.Errorf("%s: not within the time: %w", what, context.Cause(ctx)), err)
		}
		Wait(ctx, 100*time.Millisecond)
	}
}
