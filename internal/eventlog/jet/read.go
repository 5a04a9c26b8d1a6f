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
	// Unreadable: the replica counts messages that it passed over, and did so
	// whenever it was asked. A bit of a file has flipped.
	Unreadable bool
}

// readsToBelieve is how often a page must be short before it is believed: what is
// stored just after the page has been put together is counted, too.
const readsToBelieve = 3

// Read asks any replica for messages of one subject.
func (c *Client) Read(ctx context.Context, stream string, r ReadRequest) (page Page, err error) {
	req := directRequest{Seq: r.From, NextFor: r.Subject, Batch: r.Batch, MaxBytes: r.MaxBytes}
	if r.From == 0 {
		req.StartTime = &r.Since
	}
	for range readsToBelieve {
		answer, err := c.direct(ctx, c.reads, stream, req)
		if err != nil {
			return Page{}, err
		}
		page = Page{Messages: answer.messages, Remaining: answer.pending, Unreadable: answer.isShort(req)}
		if !page.Unreadable {
			break
		}
	}
	return page, nil
}

// isShort reports whether the answer ends neither with the last message nor for
// one of the limits of the request.
func (a directAnswer) isShort(req directRequest) bool {
	bytes := 0
	for _, m := range a.messages {
		bytes += len(m.Subject) + len(m.Data)
		for key, values := range m.header { // more than the server counts
			for _, value := range values {
				bytes += len(key) + len(value) + len(": \r\n")
			}
		}
	}
	return a.pending > 0 && len(a.messages) < req.Batch && bytes < req.MaxBytes
}
