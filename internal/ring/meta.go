package ring

import (
	"errors"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// A node's metadata, of which memberlist allows 512 bytes:
//
//	version(1) tier(1) flags(1) length(1) node length(1) build
const metaVersion = 1

const (
	metaEdge   byte = 1
	metaRouter byte = 2
)

// The flags of a node.
const (
	metaDraining byte = 1
	// metaStanding says that the node takes messages on streams that stay open;
	// older versions do not.
	metaStanding byte = 2
)

// Bounds that keep the metadata below memberlist's limit.
const (
	maxNodeBytes  = 128
	maxBuildBytes = 200
)

// maxNameBytes bounds the name of a member: that of its node, and when it started.
const maxNameBytes = maxNodeBytes + 64

func encodeMeta(m Member) []byte {
	buf := []byte{metaVersion, metaEdge, 0}
	if m.Tier == TierRouter {
		buf[1] = metaRouter
	}
	if m.Draining {
		buf[2] |= metaDraining
	}
	for _, text := range []string{m.Node, m.Build} {
		buf = append(append(buf, byte(len(text))), text...)
	}
	return buf
}

// decodeMember reads what memberlist knows of a node.
func decodeMember(n *memberlist.Node) (Member, error) {
	r := reader{data: n.Meta}
	if v := r.byte(); v != metaVersion {
		return Member{}, fmt.Errorf("metadata version %d, expected %d", v, metaVersion)
	}
	m := Member{Name: n.Name, Address: n.Address()}
	switch r.byte() {
	case metaEdge:
		m.Tier = TierEdge
	case metaRouter:
		m.Tier = TierRouter
	default:
		return Member{}, errors.New("unknown tier")
	}
	m.Draining = r.byte()&metaDraining != 0
	m.Node, m.Build = string(r.short()), string(r.short())
	if r.err != nil {
		return Member{}, fmt.Errorf("metadata %w", r.err)
	}
	return m, nil
}

// takesStanding reports whether a node takes messages on streams that stay open.
func takesStanding(n *memberlist.Node) bool { return len(n.Meta) > 2 && n.Meta[2]&metaStanding != 0 }

// short reads a text with one byte of length.
func (r *reader) short() []byte {
	n := int(r.byte())
	if n > len(r.data) {
		r.fail(errShort)
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}
