package jet

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// leaderGet is a request of JetStream's API for one message.
type leaderGet struct {
	Seq       uint64     `json:"seq,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
}

// Place is where a message stands; zero: there is none.
type Place struct {
	Sequence uint64    `json:"seq"`
	Stored   time.Time `json:"time"`
}

// At asks a stream's leader for the message at a sequence.
func (c *Client) At(ctx context.Context, stream string, sequence uint64) (Place, error) {
	return c.leaderGet(ctx, stream, leaderGet{Seq: sequence})
}

// FirstSince asks a stream's leader for the first message of a subject that was
// stored at a time or later.
func (c *Client) FirstSince(ctx context.Context, stream, subject string, since time.Time) (Place, error) {
	since = since.UTC()
	return c.leaderGet(ctx, stream, leaderGet{StartTime: &since, NextFor: subject})
}

// Next asks a stream's leader for the first message of a subject from a sequence on.
func (c *Client) Next(ctx context.Context, stream, subject string, from uint64) (Place, error) {
	return c.leaderGet(ctx, stream, leaderGet{Seq: from, NextFor: subject})
}

func (c *Client) leaderGet(ctx context.Context, stream string, req leaderGet) (Place, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return Place{}, err
	}
	return Ask(ctx, func(ctx context.Context) (Place, error) {
		msg, err := c.NC.RequestWithContext(ctx, c.api+"STREAM.MSG.GET."+stream, body)
		if err != nil {
			return Place{}, err
		}
		var answer struct {
			Error   *jetstream.APIError `json:"error"`
			Message Place               `json:"message"`
		}
		switch err := json.Unmarshal(msg.Data, &answer); {
		case err != nil:
			return Place{}, err
		case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
			return Place{}, nil
		case answer.Error != nil:
			return Place{}, answer.Error
		}
		return answer.Message, nil
	})
}
