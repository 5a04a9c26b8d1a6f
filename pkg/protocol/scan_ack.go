package protocol

import (
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/internal/jsonscan"
)

// scanAck reads an ack, the message that comes with every event, without a map
// of its fields. It never finds fault: ok is false for every other message, for
// a faulty ack and for one that is only unusual (see package jsonscan), which
// are left to parseClientMessage. What scanAck accepts, that one reads as the
// same message.
func scanAck(data []byte) (m ClientMessage, ok bool) {
	if !utf8.Valid(data) {
		return m, false
	}
	var envelope [4][]byte
	if !members(data, envelope[:], "type", "id", "timestamp", "payload") || string(envelope[0]) != `"ack"` {
		return m, false
	}
	if m.ID, ok = plainID(envelope[1]); !ok {
		return m, false
	}
	if text, ok := jsonscan.Text(envelope[2]); !ok || !isTime(string(text)) {
		return m, false
	}
	var list [1][]byte
	if !members(envelope[3], list[:], "eventIds") {
		return m, false
	}
	ids, ok := plainIDs(list[0])
	m.Type, m.Payload = TypeAck, Ack{EventIDs: ids}
	return m, ok
}

// members reads the members of an object that have these names. It fails where
// one of them occurs twice, of which the last would count.
func members(object []byte, values [][]byte, names ...string) bool {
	c := jsonscan.Object(object)
	for {
		name, value, more := c.Next()
		if !more {
			return c.Whole()
		}
		for i := range names {
			if string(name) != names[i] {
				continue
			}
			if values[i] != nil {
				return false
			}
			values[i] = value
		}
	}
}

// plainIDs reads a list of 1 to MaxAckIDs ids.
func plainIDs(list []byte) (ids []string, ok bool) {
	c := jsonscan.Array(list)
	for {
		_, value, more := c.Next()
		if !more {
			return ids, c.Whole() && len(ids) > 0
		}
		id, ok := plainID(value)
		if !ok || len(ids) == MaxAckIDs {
			return nil, false
		}
		ids = append(ids, id)
	}
}

func plainID(value []byte) (id string, ok bool) {
	text, ok := jsonscan.Text(value)
	if !ok || len(text) == 0 || len(text) > MaxIDBytes {
		return "", false
	}
	return string(text), true
}

func isTime(text string) bool {
	_, err := ParseTime(text)
	return err == nil
}
