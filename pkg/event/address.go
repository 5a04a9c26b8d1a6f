package event

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Token is an id (orchestrator, daemon or event) written so that it may stand
// in a NATS subject, a KV key and a gossip message: bytes outside
// [A-Za-z0-9_-] become "=XX". The encoding is one to one.
type Token string

// SentinelToken is the token of each partition's sentinel message. No id
// encodes to it, because a "=" in an id becomes "=3D".
const SentinelToken Token = "="

const upperHex = "0123456789ABCDEF"

// TokenOf encodes an id.
func TokenOf[ID ~string](id ID) Token {
	plain := true
	for i := range len(id) {
		if !isTokenByte(id[i]) {
			plain = false
			break
		}
	}
	if plain {
		return Token(id)
	}
	var b strings.Builder
	b.Grow(len(id) + 8)
	for i := range len(id) {
		if c := id[i]; isTokenByte(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return Token(b.String())
}

// encodes reports, without allocating, whether t is TokenOf(id).
func (t Token) encodes(id []byte) bool {
	for _, c := range id {
		switch {
		case isTokenByte(c) && t != "" && t[0] == c:
			t = t[1:]
		case !isTokenByte(c) && len(t) >= 3 && t[0] == '=' && t[1] == upperHex[c>>4] && t[2] == upperHex[c&15]:
			t = t[3:]
		default:
			return false
		}
	}
	return t == ""
}

// Reserved reports whether the token is of a reserved orchestrator
// (protocol.OrchestratorID.Reserved); the prefix is written alike in both.
func (t Token) Reserved() bool { return protocol.OrchestratorID(t).Reserved() }

// ID decodes the token. It fails for text that TokenOf never returns.
func (t Token) ID() (string, error) {
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		c := t[i]
		switch {
		case isTokenByte(c):
			b.WriteByte(c)
		case c == '=' && i+3 <= len(t):
			raw, err := hex.DecodeString(string(t[i+1 : i+3]))
			if err != nil || isTokenByte(raw[0]) {
				return "", fmt.Errorf("token %q: bad escape at byte %d", string(t), i)
			}
			b.WriteByte(raw[0])
			i += 2
		default:
			return "", fmt.Errorf("token %q: unexpected byte %q at %d", string(t), c, i)
		}
	}
	if TokenOf(b.String()) != t {
		return "", fmt.Errorf("token %q is not in canonical form", string(t))
	}
	return b.String(), nil
}

// Orchestrator decodes the token of an orchestrator and validates its id.
func (t Token) Orchestrator() (protocol.OrchestratorID, error) {
	id, err := t.ID()
	if err != nil {
		return "", err
	}
	return protocol.OrchestratorID(id), protocol.OrchestratorID(id).Validate()
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// Partition numbers one of the P streams of the event log, from 0.
type Partition int

// PartitionOf returns the partition of an orchestrator's token: FNV-1a-32 of
// the token modulo partitions, which is the NATS server's own partition()
// mapping function, so that a server-side subject mapping agrees with it.
// There is at least one partition; with none it panics.
func PartitionOf(t Token, partitions int) Partition {
	h := fnv.New32a()
	_, _ = h.Write([]byte(t))
	return Partition(h.Sum32() % uint32(partitions))
}

// SubjectPrefix starts the subjects of all events in the log.
const SubjectPrefix = "daemon.events"

// Subject is where the events of an orchestrator stand in its partition.
func Subject(p Partition, t Token) string {
	return SubjectPrefix + "." + strconv.Itoa(int(p)) + "." + string(t)
}

// ClusterBucket is the KV bucket that holds what all nodes must agree on, and
// PartitionsKey where it says how many partitions there are.
const (
	ClusterBucket = "gateway_cluster"
	PartitionsKey = "partitions"
)

// StreamName is the JetStream stream of a partition.
func StreamName(p Partition) string { return "DAEMON_EVENTS_" + strconv.Itoa(int(p)) }

// MessageID is the Nats-Msg-Id of an event: the log keeps the first of each
// within its duplicate window. It is scoped by orchestrator, so that one
// tenant cannot suppress another's event by reusing its id.
func MessageID(orchestrator Token, eventID string) string {
	return string(orchestrator) + "/" + string(TokenOf(eventID))
}
