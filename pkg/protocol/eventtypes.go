package protocol

import (
	"fmt"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/internal/quote"
)

// EventType is the kind of an event: two words joined by a dot, such as
// "message.received". The set is open: any well-formed type is carried.
type EventType string

// MaxEventTypeBytes is the longest event type accepted.
const MaxEventTypeBytes = 128

// AllEvents is the subscription pattern that matches every event type.
const AllEvents Pattern = "*"

// Validate reports whether the type has the form word.word, where a word is
// one or more of the characters A-Z a-z 0-9 _ and -.
func (t EventType) Validate() error {
	if len(t) > MaxEventTypeBytes {
		return fmt.Errorf("event type has %d bytes, expected at most %d", len(t), MaxEventTypeBytes)
	}
	prefix, name, ok := strings.Cut(string(t), ".")
	if !ok || !isWord(prefix) || !isWord(name) {
		return fmt.Errorf("event type %q is not of the form word.word", quote.Cut(string(t)))
	}
	return nil
}

// Prefix returns the part before the dot.
func (t EventType) Prefix() string {
	prefix, _, _ := strings.Cut(string(t), ".")
	return prefix
}

// Pattern is what a daemon subscribes to: an event type, "prefix.*" or "*".
type Pattern string

// Validate reports whether the pattern is an event type, "prefix.*" or "*".
func (p Pattern) Validate() error {
	if p == AllEvents {
		return nil
	}
	if prefix, ok := strings.CutSuffix(string(p), ".*"); ok && isWord(prefix) && len(p) <= MaxEventTypeBytes {
		return nil
	}
	if err := EventType(p).Validate(); err != nil {
		return fmt.Errorf("%w, \"prefix.*\" or \"*\"", err)
	}
	return nil
}

// Matches reports whether an event of type t is meant by the pattern.
func (p Pattern) Matches(t EventType) bool {
	if p == AllEvents || string(p) == string(t) {
		return true
	}
	prefix, ok := strings.CutSuffix(string(p), "*")
	return ok && strings.HasSuffix(prefix, ".") && strings.HasPrefix(string(t), prefix)
}

// Covers reports whether every event type that q matches is matched by p.
func (p Pattern) Covers(q Pattern) bool {
	if p == AllEvents || p == q {
		return true
	}
	prefix, ok := strings.CutSuffix(string(p), "*")
	return ok && q != AllEvents && strings.HasPrefix(string(q), prefix)
}

// Subscription is one pattern with the channels it is limited to.
type Subscription struct {
	Pattern Pattern `json:"t"`
	// Channels limits the pattern to events of these channels; empty means
	// every channel. An event that names no channel always passes.
	Channels []string `json:"c,omitempty"`
}

// Matches reports whether an event of type t in channel (may be empty) passes.
func (s Subscription) Matches(t EventType, channel string) bool {
	if !s.Pattern.Matches(t) {
		return false
	}
	return channel == "" || len(s.Channels) == 0 || slices.Contains(s.Channels, channel)
}

// Covers reports whether every event that passes other passes s as well.
func (s Subscription) Covers(other Subscription) bool {
	if !s.Pattern.Covers(other.Pattern) {
		return false
	}
	if len(s.Channels) == 0 {
		return true
	}
	if len(other.Channels) == 0 {
		return false
	}
	return !slices.ContainsFunc(other.Channels, func(c string) bool { return !slices.Contains(s.Channels, c) })
}

func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return s != ""
}
