package ring

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// packed is MessagePack of texts, numbers, lists, and structures.
func packed(v any) []byte {
	switch v := v.(type) {
	case int:
		return binary.BigEndian.AppendUint32([]byte{0xce}, uint32(v))
	case string:
		return append(binary.BigEndian.AppendUint32([]byte{0xdb}, uint32(len(v))), v...)
	case list:
		out := binary.BigEndian.AppendUint32([]byte{0xdd}, uint32(len(v)))
		for _, one := range v {
			out = append(out, packed(one)...)
		}
		return out
	case fields:
		out := binary.BigEndian.AppendUint32([]byte{0xdf}, uint32(len(v)/2))
		for _, one := range v {
			out = append(out, packed(one)...)
		}
		return out
	}
	return v.([]byte) // packed already
}

type (
	list   []any
	fields []any // a name, its value, and so on
)

// says is a message of memberlist's.
func says(kind byte, parts ...any) []byte {
	out := []byte{kind}
	for _, one := range parts {
		out = append(out, packed(one)...)
	}
	return out
}

// member is a state as one of ours has it.
var member = fields{
	"Name", "edge-x", "Addr", "\x7f\x00\x00\x01", "Port", 7946, "Meta", string(encodeMeta(Member{Node: "edge", Tier: TierEdge})),
	"Incarnation", 1, "State", 0, "Vsn", "\x01\x05\x02\x01\x01\x01",
}

// unpacks is a message that takes 40 MiB, compressed.
var unpacks = sync.OnceValue(func() []byte {
	var small bytes.Buffer
	w := lzw.NewWriter(&small, lzw.LSB, 8)
	_, err := w.Write(make([]byte, 40<<20))
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return says(9, fields{"Algo", 0, "Buf", small.String()})
})

// holder has the gossip key of a node's cluster, or there is none.
type holder struct {
	cluster string
	key     cipher.AEAD
}

func holderOf(t *testing.T, cfg Config) holder {
	t.Helper()
	h := holder{cluster: cfg.ClusterName}
	keys, err := parseKeys(cfg.GossipKeys)
	require.NoError(t, err)
	if keys != nil {
		block, err := aes.NewCipher(keys.GetPrimaryKey())
		require.NoError(t, err)
		h.key, err = cipher.NewGCM(block)
		require.NoError(t, err)
	}
	return h
}

func (h holder) label() []byte {
	return append([]byte{kindLabelled, byte(len(h.cluster))}, h.cluster...)
}

func (h holder) seal(version byte, text, authenticated []byte) []byte {
	nonce := make([]byte, h.key.NonceSize())
	_, _ = rand.Read(nonce) // it never fails
	return h.key.Seal(append([]byte{version}, nonce...), nonce, text, authenticated)
}

// answer is a message on a stream that a node has opened.
func (h holder) answer(version byte, text []byte) []byte {
	if h.key == nil {
		return text
	}
	head := binary.BigEndian.AppendUint32([]byte{kindSealed}, uint32(1+h.key.NonceSize()+len(text)+h.key.Overhead()))
	return append(slices.Clone(head), h.seal(version, text, append(head, h.cluster...))...)
}

// stream is a message on a stream that is opened for it.
func (h holder) stream(version byte, text []byte) []byte {
	return append(h.label(), h.answer(version, text)...)
}

func (h holder) packet(version byte, text []byte) []byte {
	if h.key == nil {
		return append(h.label(), text...)
	}
	return append(h.label(), h.seal(version, text, []byte(h.cluster))...)
}

// overdrawn are messages on a stream that declare more than they have, or that no
// member says.
func overdrawn() map[string][]byte {
	header := func(nodes, state int) fields { return fields{"Nodes", nodes, "UserStateLen", state, "Join", 0} }
	return map[string][]byte{
		"a million members":                    says(kindPushPull, header(1<<20, 0)),
		"a million members of a byte":          says(kindPushPull, header(1<<20, 0), bytes.Repeat([]byte{0x80}, 1<<20)),
		"a member more than there are":         says(kindPushPull, header(3, 0), member, member),
		"members whose states are too small":   says(kindPushPull, header(2, 0), member, fields{"Name", "x"}),
		"a state that is no structure":         says(kindPushPull, header(1, 0), list{1, strings.Repeat("x", leastState)}),
		"20 MiB of state":                      says(kindPushPull, header(0, 20<<20)),
		"a byte of state more than there is":   says(kindPushPull, header(1, 5), member, []byte("four")),
		"the members twice":                    says(kindPushPull, fields{"Nodes", 0, "Nodes", 1 << 20, "UserStateLen", 0}),
		"a header that is a list":              says(kindPushPull, list{1 << 20, 20 << 20, 0}),
		"members below zero":                   says(kindPushPull, fields{"Nodes", []byte{0xff}, "UserStateLen", 0}),
		"members as a text":                    says(kindPushPull, fields{"Nodes", "many", "UserStateLen", 0}),
		"a text longer than the message":       says(kindPushPull, []byte{0x81, 0xdb, 0xff, 0xff, 0xff, 0xff}),
		"values in one another":                says(kindPushPull, fields{"x", list{list{list{1}}}}),
		"values in one another without end":    says(kindPushPull, append([]byte{0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 1<<20)...)),
		"a message of 20 MiB":                  says(kindUser, fields{"UserMsgLen", 20 << 20}),
		"a byte of message more than there is": says(kindUser, fields{"UserMsgLen", 5}, []byte("four")),
		"what unpacks to 40 MiB":               unpacks(),
		"a kind for packets":                   says(kindAlive, member),
		"nothing that is known":                says(200),
	}
}
