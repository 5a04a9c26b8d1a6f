package jet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	reservationStream  = "DAEMON_GATEWAY_RESERVATION"
	reservationSubject = "daemon.reservation"
	// reservationAge is when the stream of a node that died is in the way.
	reservationAge = 10 * time.Second
)

// CanReserve reports whether NATS can reserve so many bytes on as many servers,
// by doing so for a moment.
func (c *Client) CanReserve(ctx context.Context, bytes int64, replicas int) (bool, error) {
	_, err := c.createStream(ctx, jetstream.StreamConfig{
		Name: reservationStream, Subjects: []string{reservationSubject},
		Storage: jetstream.FileStorage, Replicas: replicas, MaxBytes: bytes,
	})
	switch {
	case err == nil:
		if err := c.giveBack(ctx); err != nil {
			return true, fmt.Errorf("give back a reservation: %w", setupError(err))
		}
		return true, nil
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
		return false, c.awaitReservation(ctx)
	case NoRoom(err):
		return false, nil
	}
	return false, fmt.Errorf("reserve disk: %w", setupError(err))
}

// giveBack deletes the reservation. Nodes that reserve at the same time share
// it, so that another one may have done so.
func (c *Client) giveBack(ctx context.Context) error {
	_, err := Ask(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.JS.DeleteStream(ctx, reservationStream)
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

// NoRoom tells a lack of disk from a lack of servers.
func NoRoom(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeStorageExceeded ||
		api.ErrorCode == codeNoPeers && strings.Contains(api.Description, "insufficient storage"))
}

// awaitReservation makes the caller try again later, because another node is
// reserving; what one that died has left is removed.
func (c *Client) awaitReservation(ctx context.Context) error {
	stream, err := c.Stream(ctx, reservationStream)
	if err == nil && time.Since(stream.CachedInfo().Created) > reservationAge {
		_ = c.giveBack(ctx) // whoever fails tries again
	}
	return fmt.Errorf("%w: another node is reserving disk", ErrUnavailable)
}
