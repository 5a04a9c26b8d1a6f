package jet

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// pubAnswer is what a stream says to a publish.
type pubAnswer struct {
	*jetstream.PubAck
	Error *jetstream.APIError `json:"error"`
}

func readPubAnswer(data []byte) (*jetstream.PubAck, error) {
	if ack, ok := plainPubAck(data); ok {
		return &ack, nil
	}
	return parsePubAnswer(data)
}

func parsePubAnswer(data []byte) (*jetstream.PubAck, error) {
	var answer pubAnswer
	switch err := json.Unmarshal(data, &answer); {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", jetstream.ErrInvalidJSAck, err)
	case answer.Error != nil:
		return nil, answer.Error
	case answer.PubAck == nil || answer.Stream == "":
		return nil, jetstream.ErrInvalidJSAck
	}
	return answer.PubAck, nil
}

// plainPubAck reads the two forms in which servers say that a message is stored,
// byte for byte as they write them. Everything else is for parsePubAnswer, and
// what is read here it reads alike.
func plainPubAck(data []byte) (ack jetstream.PubAck, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"stream":"`))
	if !ok {
		return ack, false
	}
	stream, rest, ok := bytes.Cut(rest, []byte(`","seq":`))
	if !ok || !isPlainName(stream) {
		return ack, false
	}
	digits := 0
	for ; digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9'; digits++ {
		ack.Sequence = 10*ack.Sequence + uint64(rest[digits]-'0')
	}
	if digits == 0 || digits > 18 || rest[0] == '0' {
		return ack, false
	}
	switch string(rest[digits:]) {
	case "}":
	case `,"duplicate": true}`:
		ack.Duplicate = true
	default:
		return ack, false
	}
	ack.Stream = string(stream)
	return ack, true
}

func isPlainName(name []byte) bool {
	for _, c := range name {
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return len(name) > 0
}
