package jet

import (
	"context"
	"time"
)

// ReadRequest says what to read of a subject: from a sequence on, or, where that
// is 0, what was stored since a time.
type ReadRequest struct {
	Subject string
	From    uint64
	Since   time.Time
	// Batch bounds the messages of the answer, MaxBytes ends it with the one that
	// reaches them.
	Batch, MaxBytes int
}

// Page is a part of a subject's messages.
type Page struct {
	Messages []Message
	// Remaining is how many more the answering replica had after the last of
	// Messages.
	Remaining uint64
}

// Read asks any replica for messages of one subject.
func (c *Client) Read(ctx context.Context, stream string, r ReadRequest) (Page, error) {
	release, err := acquire(ctx, c.reads)
	if err != nil {
		return Page{}, err
	}
	defer release()
	req := directRequest{Seq: r.From, NextFor: r.Subject, Batch: r.Batch, MaxBytes: r.MaxBytes}
	if r.From == 0 {
		req.StartTime = &r.Since
	}
	answer, err := c.direct(ctx, stream, req)
	return Page{Messages: answer.messages, Remaining: answer.pending}, err
}
