package eventlog

import (
	"context"
	"errors"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
)

// What callers tell apart. All of them may be wrapped.
var (
	// ErrPartitions means that the cluster was created with another number of
	// partitions. Nothing but another setting helps.
	ErrPartitions = errors.New("the cluster has another number of partitions")
	// ErrConfig means that NATS can never hold the log as it is configured.
	ErrConfig = jet.ErrConfig
	// ErrUnavailable means that the log did not answer, or not fully. A publish
	// may have been stored or not. To be retried.
	ErrUnavailable = jet.ErrUnavailable
	// ErrLogFull means that the partition refused an event because it is full.
	// To be retried: it empties as events expire, or an operator enlarges it.
	ErrLogFull = jet.ErrFull
	// ErrTooLarge means that NATS takes no message of that size.
	ErrTooLarge = jet.ErrTooLarge
)

// Refused tells whether the log will never take a message. It is the one reason
// to give an event up: an error that nobody has classified says nothing of it.
func Refused(err error) bool { return errors.Is(err, ErrTooLarge) }

// Retryable tells whether the same request may succeed later, which is so unless
// the log has refused it or the caller has given up.
func Retryable(err error) bool {
	return err != nil && !Refused(err) && !errors.Is(err, context.Canceled)
}
