package jet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	reservationStream  = "DAEMON_GATEWAY_RESERVATION"
	reservationSubject = "daemon.reservation"
)

// CanReserve reports whether NATS can reserve so many bytes on as many servers,
// by doing so for a moment. Only one node at a time may ask: a stream that is
// deleted while NATS still clears away one of the same name leaves a directory
// behind, of which NATS says at each later start that it cannot be recovered.
func (c *Client) CanReserve(ctx context.Context, bytes int64, replicas int) (bool, error) {
	_, err := c.createStream(ctx, jetstream.StreamConfig{
		Name: reservationStream, Subjects: []string{reservationSubject},
		Storage: jetstream.FileStorage, Replicas: replicas, MaxBytes: bytes,
	})
	left := errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) // by a node that has died
	switch {
	case NoRoom(err):
		return false, nil
	case err != nil && !left:
		return false, fmt.Errorf("reserve disk: %w", c.setupError(err))
	}
	_, err = Ask(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.JS.DeleteStream(ctx, reservationStream)
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, fmt.Errorf("give back a reservation: %w", c.setupError(err))
	}
	if left {
		return false, fmt.Errorf("%w: gave back what another node had reserved", ErrUnavailable)
	}
	return true, nil
}

// LargestStream returns how large the account lets a stream be, 0 where it does not
// say.
func (c *Client) LargestStream(ctx context.Context) (int64, error) {
	info, err := Ask(ctx, func(ctx context.Context) (*jetstream.AccountInfo, error) { return c.JS.AccountInfo(ctx) })
	if err != nil {
		return 0, err
	}
	most := max(0, info.Limits.StoreMaxStreamBytes)
	for _, tier := range info.Tiers {
		if m := tier.Limits.StoreMaxStreamBytes; m > 0 && (most == 0 || m < most) {
			most = m
		}
	}
	return most, nil
}

// NoRoom tells a lack of disk from a lack of servers.
func NoRoom(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeStorageExceeded || api.ErrorCode == codeAccountResources || api.ErrorCode == codeStreamTooLarge ||
		api.ErrorCode == codeNoPeers && strings.Contains(api.Description, "insufficient storage"))
}
