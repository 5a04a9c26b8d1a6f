package jet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Finder returns a stream as its leader describes it: Client.Stream, or
// Client.Find where the stream has been there before.
type Finder func(ctx context.Context, name string) (jetstream.Stream, error)

// EnsureStream returns the stream that find finds, and creates it if there is
// none and the client may. Many nodes may do that at once: the server accepts the
// same settings twice, and if it refuses because of different ones, the stream is
// there.
func (c *Client) EnsureStream(ctx context.Context, want jetstream.StreamConfig, find Finder) (*jetstream.StreamInfo, error) {
	stream, err := find(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && c.rights >= Create {
		stream, err = c.createStream(ctx, want)
		if err == nil {
			c.logger.Info("stream created", "stream", want.Name)
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = c.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, c.setupError(err))
	}
	info := stream.CachedInfo()
	if !slices.Equal(info.Config.Subjects, want.Subjects) {
		return nil, fmt.Errorf("%w: stream %s holds the subjects %v, expected %v", ErrConfig, want.Name, info.Config.Subjects, want.Subjects)
	}
	return info, nil
}

// createStream creates a stream, or returns one that is there with the same
// settings.
func (c *Client) createStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	cfg = guarded(cfg)
	return Ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.JS.CreateStream(ctx, cfg) })
}

// guarded is a stream that no message empties. Where a stream allows the header Nats-Rollup, as the client library
// has its KV buckets, whoever may publish one message to it can empty all of it:
// NATS asks the stream and not the user. Purges are not denied, because bridges
// and operators make them, and because that could not be taken back: an earlier
// release, which lets buckets have the header, could not change their limits any
// more.
func guarded(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.AllowRollup = false
	return cfg
}

// AdjustStream changes a stream's settings to the wanted ones if the client may.
// Else it reports that they differ, which keeps nobody from using the stream.
func (c *Client) AdjustStream(ctx context.Context, have, want jetstream.StreamConfig) (differs bool, err error) {
	merged, differs := merge(have, want)
	if !differs {
		return false, nil
	}
	if c.rights < Change {
		c.logger.Warn("stream has other settings than this node; "+c.Changer(), "stream", want.Name)
		return true, nil
	}
	if _, err := c.JS.UpdateStream(ctx, merged); err != nil {
		return true, fmt.Errorf("update stream %s: %w", want.Name, c.setupError(err))
	}
	c.logger.Info("stream updated", "stream", want.Name)
	return false, nil
}

// Changer says who changes streams and buckets, where this client may not.
func (c *Client) Changer() string {
	if c.rights == Use {
		return "gateway-admin changes them"
	}
	return "a router changes them"
}

// merge returns have with the settings that can be changed taken from want, and
// whether that changes anything. The rest stays as the operator made it.
func merge(have, want jetstream.StreamConfig) (jetstream.StreamConfig, bool) {
	merged := guarded(have)
	merged.MaxMsgsPerSubject = unlimited(want.MaxMsgsPerSubject)
	merged.MaxBytes = unlimited(want.MaxBytes)
	merged.MaxAge = want.MaxAge
	merged.Duplicates = want.Duplicates
	merged.Replicas = want.Replicas
	merged.Discard = want.Discard
	merged.DiscardNewPerSubject = want.DiscardNewPerSubject
	merged.AllowDirect = want.AllowDirect
	merged.DenyDelete = have.DenyDelete || want.DenyDelete // it cannot be taken back
	return merged, merged.MaxMsgsPerSubject != have.MaxMsgsPerSubject || merged.MaxBytes != have.MaxBytes ||
		merged.MaxAge != have.MaxAge || merged.Duplicates != have.Duplicates || merged.Replicas != have.Replicas ||
		merged.Discard != have.Discard || merged.DiscardNewPerSubject != have.DiscardNewPerSubject ||
		merged.AllowDirect != have.AllowDirect || merged.AllowRollup != have.AllowRollup || merged.DenyDelete != have.DenyDelete
}

// unlimited is how the server writes the absence of a limit.
func unlimited(limit int64) int64 {
	if limit == 0 {
		return -1
	}
	return limit
}

// EnsureBucket is EnsureStream and AdjustStream for the stream of a KV bucket.
func (c *Client) EnsureBucket(ctx context.Context, want jetstream.StreamConfig) (differs bool, err error) {
	info, err := c.EnsureStream(ctx, want, c.Stream)
	if err != nil {
		return false, err
	}
	have := info.Config
	want.MaxBytes = bucketBytes(have.MaxBytes, want.MaxBytes, int64(info.State.Bytes))
	differs, err = c.AdjustStream(ctx, have, want)
	if !NoRoom(err) || have.MaxBytes == want.MaxBytes {
		return differs, err
	}
	// It may not be kept from its work by what it did without before.
	c.logger.Warn("NATS has no room to reserve for a bucket: its size stays", "stream", want.Name, "wanted", want.MaxBytes, "error", err)
	want.MaxBytes = have.MaxBytes
	_, err = c.AdjustStream(ctx, have, want)
	return true, err
}

// bucketBytes is the size that a bucket is to have: what is wanted, but, since a
// full bucket refuses all writes, never less than twice what it holds.
func bucketBytes(have, want, held int64) int64 {
	if have > want && 2*held > want {
		return have
	}
	return max(want, 2*held)
}

// ErrMissing means that a stream or bucket is missing that this node does not
// make.
var ErrMissing = fmt.Errorf("%w: it is missing, and gateway-admin makes it: run it with the settings of the nodes", ErrUnavailable)

// setupError marks what no waiting mends, and explains those of NATS's messages
// that do not help.
func (c *Client) setupError(err error) error {
	var api *jetstream.APIError
	if c.rights == Use && errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode {
	case codeReplicasUnsupported:
		return fmt.Errorf("%w: STREAM_REPLICAS over 1 needs a NATS cluster: %w", ErrConfig, err)
	case codeStreamInvalidConfig:
		return fmt.Errorf("%w: %w", ErrConfig, err)
	case codeStorageExceeded, codeInsufficientResources, codeAccountResources, codeNoPeers:
		return fmt.Errorf("NATS has no room for it; it reserves PARTITIONS x LOG_MAX_BYTES on each server that holds a copy: %w", err)
	}
	return err
}
