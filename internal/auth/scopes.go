package auth

import (
	"maps"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// everything is the scope that grants all others.
const everything = "*"

// scopeOf is the scope that receiving events of a prefix takes; "": none, by
// Neolith's rule. The set of event types is open, and what scope an unknown one
// takes nobody has said: it takes none, or where scopes are strict everything.
var scopeOf = map[string]string{
	"message":  "messages:read",
	"channel":  "channels:read",
	"presence": "presence:read",
	"call":     "calls:join",
	"vp":       "",
	"system":   "",
}

// Scopes is what a token allows. It is immutable; the zero Scopes allows only
// what takes no scope.
//
// A daemon whose scopes do not reach everything may still subscribe to "*": it
// is then sent the events that its scopes allow. Subscribing by name to what
// they do not allow is refused, because that daemon would wait in vain.
type Scopes struct {
	granted      []string
	unrestricted bool
	strict       bool
}

// NewScopes returns what a token's list of scopes allows. An empty list is
// unrestricted, unless strict.
func NewScopes(granted []string, strict bool) Scopes {
	return Scopes{
		strict:       strict,
		granted:      slices.Clone(granted),
		unrestricted: len(granted) == 0 && !strict || slices.Contains(granted, everything),
	}
}

// List returns the scopes as the token has them, never nil. The caller may
// change the copy.
func (s Scopes) List() []string { return append([]string{}, s.granted...) }

// Unrestricted reports whether everything is allowed.
func (s Scopes) Unrestricted() bool { return s.unrestricted }

// Allows reports whether events of this prefix ("message") may be received. It
// does not allocate.
func (s Scopes) Allows(prefix string) bool {
	return s.missing(prefix) == ""
}

// missing returns the scope that events of this prefix take and the token has not,
// "" if it lacks none.
func (s Scopes) missing(prefix string) string {
	if s.unrestricted {
		return ""
	}
	scope, known := scopeOf[prefix]
	switch {
	case !known && s.strict:
		return everything
	case scope == "" || slices.Contains(s.granted, scope):
		return ""
	}
	return scope
}

// AllowsEvent reports whether an event of this type may be sent to the daemon.
func (s Scopes) AllowsEvent(t protocol.EventType) bool { return s.Allows(t.Prefix()) }

// MissingFor returns the scope that the daemon needs to subscribe to the pattern
// and has not, "" if it may.
func (s Scopes) MissingFor(p protocol.Pattern) string {
	if p == protocol.AllEvents {
		return ""
	}
	prefix, _, _ := strings.Cut(string(p), ".")
	return s.missing(prefix)
}

// Within returns what a daemon with these scopes is sent of what the pattern
// matches. Of "*" that may be what has none of the known prefixes, for which there is
// no pattern: the one that stands for it is covered by "*" and by itself alone.
func (s Scopes) Within(p protocol.Pattern) (allowed []protocol.Pattern) {
	if p != protocol.AllEvents {
		if s.MissingFor(p) != "" {
			return nil
		}
		return []protocol.Pattern{p}
	}
	var known []string
	for _, prefix := range slices.Sorted(maps.Keys(scopeOf)) {
		known = append(known, prefix+".*")
		if s.Allows(prefix) {
			allowed = append(allowed, protocol.Pattern(prefix+".*"))
		}
	}
	switch unknown := s.Allows(""); {
	case unknown && len(allowed) == len(known):
		return []protocol.Pattern{p}
	case unknown:
		allowed = append(allowed, protocol.Pattern("* without "+strings.Join(known, ", ")))
	}
	return allowed
}
