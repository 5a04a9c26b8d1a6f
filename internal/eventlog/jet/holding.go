package jet

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Holding is what one server has of a stream.
type Holding struct {
	Created time.Time
	// First is the oldest message, Last the newest sequence. There is no First
	// where there are no messages.
	First    Place
	Last     uint64
	Messages uint64
	// Slack is by how much Last may have risen before Messages were counted.
	Slack uint64
}

// Removed is how many messages are missing from a sequence, which is not above
// the first one, to the last.
func (h Holding) Removed(from uint64) uint64 {
	return max(h.Last+1, from) - from - min(h.Messages, max(h.Last+1, from)-from)
}

// Holdings returns what a stream's leader has of it, and what the replica that
// answers this connection has: in a cluster that of the server it is connected
// to, if that has one. maxAge is what the stream keeps messages for, 0 is for
// ever: what only one of the two has not removed yet for its age is left out.
func (c *Client) Holdings(ctx context.Context, stream string, maxAge time.Duration) (leader, replica Holding, err error) {
	err = c.Request(ctx, func(ctx context.Context) error {
		found, err := c.Stream(ctx, stream)
		if err != nil {
			return err
		}
		if leader = leaderHolding(found.CachedInfo()); leader.Messages == 0 {
			replica = leader
			return nil
		}
		if replica, err = c.replicaHolding(ctx, stream, 1); err != nil {
			return err
		}
		replica.Created = leader.Created
		switch {
		case leader.First == replica.First || !expires(older(leader, replica).First, maxAge):
			return nil
		case leader.First.Sequence < replica.First.Sequence:
			return fmt.Errorf("%w: the leader of stream %s is about to remove old messages", ErrUnavailable, stream)
		}
		replica, err = c.replicaHolding(ctx, stream, leader.First.Sequence)
		replica.Created = leader.Created
		return err
	})
	return leader, replica, err
}

func older(a, b Holding) Holding {
	if a.First.Sequence < b.First.Sequence {
		return a
	}
	return b
}

// expiryLeeway is how much earlier or later than others a server may remove a
// message for its age.
const expiryLeeway = time.Minute

func expires(p Place, maxAge time.Duration) bool {
	return maxAge > 0 && time.Since(p.Stored) > maxAge-expiryLeeway
}

// Expires reports whether the first message may be gone by now for its age.
func (h Holding) Expires(maxAge time.Duration) bool { return expires(h.First, maxAge) }

func leaderHolding(info *jetstream.StreamInfo) Holding {
	s := info.State
	return Holding{Created: info.Created, First: Place{s.FirstSeq, s.FirstTime}, Last: s.LastSeq, Messages: s.Msgs}
}

// replicaHolding asks any replica what it has from a sequence on. It takes
// three questions, which the same replica answers as long as the client's
// server has one.
func (c *Client) replicaHolding(ctx context.Context, stream string, from uint64) (Holding, error) {
	last, err := c.ReplicaLast(ctx, stream)
	if err != nil {
		return Holding{}, err
	}
	answer, err := c.directGet(ctx, stream, directRequest{Seq: from, Batch: 1, MaxBytes: 1})
	if err != nil {
		return Holding{}, err
	}
	if len(answer.messages) == 0 {
		return Holding{}, fmt.Errorf("%w: the replica that was asked has nothing of stream %s", ErrUnavailable, stream)
	}
	after, err := c.ReplicaLast(ctx, stream)
	if err != nil {
		return Holding{}, err
	}
	if after < last {
		return Holding{}, fmt.Errorf("%w: two replicas of stream %s have answered", ErrUnavailable, stream)
	}
	first := answer.messages[0]
	return Holding{
		First: Place{first.Sequence, first.Stored}, Last: last, Messages: 1 + answer.pending, Slack: after - last,
	}, nil
}

// ReplicaLast asks any replica of a stream for its newest sequence.
func (c *Client) ReplicaLast(ctx context.Context, stream string) (uint64, error) {
	msg, err := c.NC.RequestWithContext(ctx, c.api+"DIRECT.GET."+stream, []byte(`{"last_by_subj":">"}`))
	if err != nil {
		return 0, err
	}
	if lastHeader(msg.Header, jetstream.SequenceHeader) == "" {
		return 0, fmt.Errorf("%w: direct get answered %s", ErrUnavailable, lastHeader(msg.Header, headerDescription))
	}
	return headerNumber(msg.Header, jetstream.SequenceHeader)
}
