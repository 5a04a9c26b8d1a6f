package jet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What callers tell apart. All of them may be wrapped.
var (
	// ErrConfig means that NATS can never hold the log as it is configured.
	ErrConfig = errors.New("the log cannot be kept as it is configured")
	// ErrUnavailable means that the log did not answer, or not fully. A publish
	// may have been stored or not. To be retried.
	ErrUnavailable = errors.New("event log unavailable")
	// ErrFull means that the stream refused a message because it is full. To be
	// retried: it empties as messages expire, or an operator enlarges it.
	ErrFull = errors.New("event log full")
	// ErrTooLarge means that NATS takes no message of that size.
	ErrTooLarge = errors.New("message too large for the event log")
)

// JetStream error codes that its client library does not name.
const (
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeStorageExceeded       jetstream.ErrorCode = 10047
	codeNoPeers               jetstream.ErrorCode = 10005
	codeAccountResources      jetstream.ErrorCode = 10002
	codeStoreFailed           jetstream.ErrorCode = 10077
	codeStreamTooLarge        jetstream.ErrorCode = 10122
	codeReplicasUnsupported   jetstream.ErrorCode = 10074
	codeStreamInvalidConfig   jetstream.ErrorCode = 10052
	// codeDuplicateInProcess: another publish of the same message id waits for
	// a majority of the replicas, as when two bridges publish the same event.
	codeDuplicateInProcess jetstream.ErrorCode = 10158
)

// Classify wraps an error of the library in the one that tells what to do next.
// What it does not know stays as it is.
func Classify(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil, errors.Is(err, ErrUnavailable), errors.Is(err, ErrFull), errors.Is(err, ErrTooLarge):
		return err
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &api):
		return classifyAPI(api, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case isOutage(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func classifyAPI(api *jetstream.APIError, err error) error {
	switch {
	case api.ErrorCode == codeStoreFailed && (strings.Contains(api.Description, "maximum bytes") || strings.Contains(api.Description, "maximum messages")),
		api.ErrorCode == codeStorageExceeded, api.ErrorCode == codeInsufficientResources,
		api.ErrorCode == codeAccountResources:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case api.Code == 503, api.ErrorCode == jetstream.JSErrCodeStreamNotFound, api.ErrorCode == codeDuplicateInProcess:
		// Leaderless, starting, or deleted and about to be created again; or the
		// other publish may fail yet.
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func isOutage(err error) bool {
	for _, e := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed,
		nats.ErrConnectionReconnecting, nats.ErrDisconnected, nats.ErrReconnectBufExceeded,
		nats.ErrConnectionDraining, nats.ErrBadSubscription, nats.ErrInvalidConnection, nats.ErrNoServers,
		jetstream.ErrNoStreamResponse, jetstream.ErrConnectionClosed,
		jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
