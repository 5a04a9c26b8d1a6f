// Package revocation says which tokens, daemons and orchestrators are refused
// although their tokens are good. What is revoked stands in a KV bucket, a key for
// each, and ends by itself:
//
//	Redis, set daemon:tokens:revoked ── bridges ──┐
//	an operator: nats kv put ─────────────────────┴─▶ bucket ── List ──▶ every edge
//
// Bridges write what Neolith has revoked, edges read; neither knows of the other.
package revocation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Bucket is the KV bucket with what is revoked.
const Bucket = "gateway_revocations"

// Lifetime is what an entry that does not say so lives, and the longest that one
// may: the bucket forgets it then.
const Lifetime = 30 * 24 * time.Hour

// Kind says what is revoked.
type Kind string

// The kinds. A daemon is revoked whatever orchestrator it belongs to.
const (
	Token        Kind = "token" // by its jti
	Daemon       Kind = "daemon"
	Orchestrator Kind = "orchestrator"
)

var kinds = []Kind{Token, Daemon, Orchestrator}

// maxKeyBytes bounds what of an id stands in a key: any id of the protocol does,
// and of a jti those that anybody issues.
const maxKeyBytes = 3 * 128

// Key is where something revoked stands in the bucket: "token.", "daemon." or
// "orchestrator.", and the id, its bytes outside [A-Za-z0-9_-] as =XX; of an id
// that is too long for that its SHA-256.
type Key string

// KeyOf returns the key of an id.
func KeyOf[ID ~string](kind Kind, id ID) Key {
	token := string(event.TokenOf(id))
	if len(token) > maxKeyBytes {
		sum := sha256.Sum256([]byte(id))
		token = "=sha256=" + hex.EncodeToString(sum[:])
	}
	return Key(string(kind) + "." + token)
}

// KeyOfMember returns the key of a member of Neolith's set: a jti, or with
// "daemon:" or "orchestrator:" before it the id of one.
func KeyOfMember(member string) Key {
	for _, kind := range []Kind{Daemon, Orchestrator} {
		if id, ok := strings.CutPrefix(member, string(kind)+":"); ok {
			return KeyOf(kind, id)
		}
	}
	return KeyOf(Token, member)
}

// Valid reports whether something can be revoked under the key: that of an empty
// id cannot stand in a bucket.
func (k Key) Valid() bool { return k.kind() != "" }

// kind returns what the key is of, or "" if it is none of ours.
func (k Key) kind() Kind {
	name, id, _ := strings.Cut(string(k), ".")
	for _, kind := range kinds {
		if name == string(kind) && id != "" {
			return kind
		}
	}
	return ""
}

// Entry is the value of a key.
type Entry struct {
	// Until is when it ends.
	Until time.Time `json:"until"`
	// By and Reason say who wants it and why, for the log.
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// maxTextBytes bounds By and Reason, which are kept for each entry.
const maxTextBytes = 128

// Encode returns the entry as a value.
func (e Entry) Encode() []byte {
	text, _ := json.Marshal(e) // has no value that cannot be encoded, but for a year of five digits
	return text
}

// Decode reads a value that was written at a time. An empty one, or one that cannot
// be read, is a revocation as well: somebody wanted one. Long texts are cut.
func Decode(value []byte, written time.Time) Entry {
	var e Entry
	err := json.Unmarshal(value, &e)
	e.By, e.Reason = strings.Clone(quote.CutAt(e.By, maxTextBytes)), strings.Clone(quote.CutAt(e.Reason, maxTextBytes))
	most := written.Add(Lifetime)
	if err != nil || e.Until.IsZero() || e.Until.After(most) {
		e.Until = most
	}
	return e
}
