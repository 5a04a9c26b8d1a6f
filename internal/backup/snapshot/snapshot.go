// Package snapshot moves a single stream between JetStream's API and a file, in
// the format of the NATS server.
package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

const (
	// patience is how long the server may take for an answer or the next chunk.
	patience = 30 * time.Second
	askAgain = 50 * time.Millisecond
	// chunkSize is what a message carries; a server takes up to 1 MiB by default.
	chunkSize = 128 << 10
)

// Description is what the server says of a stream whose snapshot it hands out,
// and wants to be told when the stream is restored.
type Description struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// Take writes a stream to a writer in the server's own format. It is what
// `nats stream backup` takes, and does not stop anybody from publishing.
func Take(ctx context.Context, js jetstream.JetStream, stream string, to io.Writer) (Description, error) {
	nc := js.Conn()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return Description{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	var d Description
	request := map[string]any{"deliver_subject": inbox, "no_consumers": true, "chunk_size": chunkSize}
	if err := Request(ctx, nc, jet.API(js)+"STREAM.SNAPSHOT."+stream, request, &d); err != nil {
		return Description{}, err
	}
	for number := 1; ; number++ {
		last, err := receiveChunk(ctx, sub, number, to)
		if err != nil {
			return Description{}, fmt.Errorf("chunk %d: %w", number, err)
		}
		if last {
			return d, nil
		}
	}
}

// receiveChunk writes the next chunk, and reports whether it was the end. A
// connection that was lost and is back has lost chunks, which their numbers show.
func receiveChunk(ctx context.Context, sub *nats.Subscription, number int, to io.Writer) (last bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return false, err
	}
	if len(msg.Data) == 0 {
		if status := msg.Header.Get("Status"); status != "" && status != "204" {
			return false, fmt.Errorf("the server gave up: %s %s", status, msg.Header.Get("Description"))
		}
		return true, nil
	}
	// The last one, which is shorter than the others, is not to be confirmed and
	// has no number.
	if msg.Reply != "" {
		if sent := msg.Reply[strings.LastIndexByte(msg.Reply, '.')+1:]; sent != strconv.Itoa(number) {
			return false, fmt.Errorf("the server has sent chunk %q: some were lost", sent)
		}
		if err := msg.Respond(nil); err != nil {
			return false, err
		}
	}
	_, err = to.Write(msg.Data)
	return false, err
}

// Restore creates a stream from what Take has written. JetStream refuses if
// the stream exists, or somebody creates it meanwhile.
func Restore(ctx context.Context, js jetstream.JetStream, stream string, d Description, from io.Reader) error {
	nc := js.Conn()
	var where struct {
		Subject string `json:"deliver_subject"`
	}
	if err := Request(ctx, nc, jet.API(js)+"STREAM.RESTORE."+stream, d, &where); err != nil {
		return err
	}
	chunk := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(from, chunk)
		if n > 0 {
			if err := sendChunk(ctx, nc, where.Subject, chunk[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Request(ctx, nc, where.Subject, nil, &struct{}{})
		}
		if err != nil {
			return err
		}
	}
}

func sendChunk(ctx context.Context, nc *nats.Conn, subject string, chunk []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	msg, err := ask(ctx, nc, subject, chunk)
	if err != nil || len(msg.Data) == 0 {
		return err
	}
	return readAnswer(subject, msg.Data, &struct{}{})
}

// Request puts a request to JetStream's API; nil is an empty one.
func Request(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	msg, err := ask(ctx, nc, subject, body)
	if err != nil {
		return err
	}
	return readAnswer(subject, msg.Data, answer)
}

// ask asks again what nobody has heard: in a cluster it takes a moment until our
// server knows of what another one has subscribed to.
func ask(ctx context.Context, nc *nats.Conn, subject string, data []byte) (*nats.Msg, error) {
	for {
		msg, err := nc.RequestWithContext(ctx, subject, data)
		if !errors.Is(err, nats.ErrNoResponders) {
			return msg, err
		}
		if !lifecycle.Sleep(ctx, askAgain) {
			return nil, err
		}
	}
}

func readAnswer(subject string, data []byte, answer any) error {
	var refusal struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &refusal); err != nil {
		return fmt.Errorf("%s answers %q: %w", subject, data, err)
	}
	if refusal.Error != nil {
		return refusal.Error
	}
	return json.Unmarshal(data, answer)
}
