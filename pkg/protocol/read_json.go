package protocol

import (
	"encoding/json"
	"strings"

	"github.com/neolith/daemon-gateway/internal/jsonscan"
)

// The values of a client's message are read without reflection where they are
// usual. What package jsonscan doubts, and what is no value of that kind, is left
// to encoding/json; a fuzz test holds that it makes no difference.

// objectOf reads a JSON object's fields, or says what is there instead. The values
// may be parts of data. Names are case-sensitive, which decoding into a struct
// would not be.
func objectOf(data []byte) (f fields, problem string) {
	f = make(fields, 8)
	c := jsonscan.Object(data)
	for {
		name, value, more := c.Next()
		if !more {
			break
		}
		f[string(name)] = value
	}
	if c.Whole() {
		return f, ""
	}
	return unmarshalObject(data)
}

func unmarshalObject(data []byte) (f fields, problem string) {
	if err := json.Unmarshal(data, &f); err != nil {
		if kind := kindOf(data); json.Valid(data) {
			return nil, "got " + kind
		}
		return nil, err.Error()
	}
	if f == nil {
		return nil, "got null"
	}
	return f, ""
}

// listOf reads a value that is a list.
func listOf(raw json.RawMessage) (items []json.RawMessage, ok bool) {
	c := jsonscan.Array(raw)
	for {
		_, value, more := c.Next()
		if !more {
			break
		}
		items = append(items, value)
	}
	if c.Whole() {
		return items, true
	}
	return unmarshalList(raw)
}

func unmarshalList(raw json.RawMessage) (items []json.RawMessage, ok bool) {
	err := json.Unmarshal(raw, &items)
	return items, err == nil
}

// textOf reads a value that is a string.
func textOf(raw json.RawMessage) (string, bool) {
	if text, ok := jsonscan.Text(raw); ok {
		return string(text), true
	}
	return unmarshalText(raw)
}

func unmarshalText(raw json.RawMessage) (text string, ok bool) {
	err := json.Unmarshal(raw, &text)
	return text, err == nil && kindOf(raw) == "a string"
}

// kindOf names the kind of a JSON value for an error message.
func kindOf(raw []byte) string {
	text := strings.TrimLeft(string(raw[:min(len(raw), 64)]), " \t\r\n")
	if text == "" {
		return "nothing"
	}
	switch text[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
