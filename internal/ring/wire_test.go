package ring

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestWireRoundTrip(t *testing.T) {
	t.Parallel()
	w := history(rand.New(rand.NewPCG(1, 2)), "edge-a", 100)
	w.claim(claimOf("o", "not-a-uuid", 1<<60))
	w.claim(claimOf("o", strings.ToUpper(uuid(0xabc)), 0))
	w.claim(claimOf("o", "", 0))
	b := w.collect()
	d, claims := w.snapshot()
	data := appendHeader(nil, w.own.id)
	data = append(data, digestsFrame([]digest{d, {Edge: 1}})...)
	data = append(data, requestFrame(d)...)
	for _, frame := range batchFrames(b) {
		data = append(data, frame...)
	}
	data = append(data, chunkFrame(d, claims, 0)...)

	m, err := decodeMessage(data)
	require.NoError(t, err)
	require.Equal(t, message{
		Sender: w.own.id, Digests: []digest{d, {Edge: 1}}, Requests: []digest{d}, Batches: []batch{b},
		Chunks: []chunk{{Digest: d, Index: 0, Total: 1, Claims: plain(claims)}},
		items:  4 + 2 + len(b.Changes) + len(claims),
	}, m)
}

func TestWireBoundsFrames(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	long := strings.Repeat("=C3", protocol.MaxIDBytes)
	for i := range 2*chunkClaims + 1 {
		c := claimOf(long, uuid(i), 1)
		c.Daemon = protocol.DaemonID(strings.Repeat("d", protocol.MaxIDBytes))
		w.claim(c)
	}
	d, claims := w.snapshot()
	require.Equal(t, 3, chunksOf(len(claims)))
	frames := batchFrames(w.takeOutgoing())
	require.Len(t, frames, 3)
	got := newTable("")
	got.addEdge("edge-a")
	var rest []Claim
	for i := range 3 {
		chunk := chunkFrame(d, claims, i)
		require.Less(t, len(chunk), 2<<20, "far below memberlist's 20 MB")
		m, err := decodeMessage(append(appendHeader(nil, w.own.id), chunk...))
		require.NoError(t, err)
		rest = append(rest, m.Chunks[0].Claims...)
		require.Less(t, len(frames[i]), 2<<20)
		m, err = decodeMessage(append(appendHeader(nil, w.own.id), frames[i]...))
		require.NoError(t, err)
		require.Equal(t, outcomeApplied, got.apply(w.own.id, m.Batches[0]))
	}
	require.Equal(t, plain(claims), rest)
	require.Equal(t, contents(w.table), contents(got))
}

// In a rolling upgrade the newer member may say what the older one does not know.
func TestWireSkipsWhatANewerVersionSays(t *testing.T) {
	t.Parallel()
	data := appendFrame(appendHeader(nil, 7), 9, []byte("new"))
	data = append(data, requestFrame(digest{})...)
	m, err := decodeMessage(data)
	require.NoError(t, err)
	require.Equal(t, message{Sender: 7, Requests: []digest{{}}, Unknown: 1, items: 2}, m)
}

// What members of other versions write and read.
func TestTheFormatOfTheGossipStays(t *testing.T) {
	t.Parallel()
	claim := Claim{Orchestrator: "clx1", Session: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Daemon: "d", Generation: 300}
	h := &held{Claim: claim}
	d := digest{Edge: 9, Version: 5, Count: 1, Hash: 77}
	message := digestsFrame([]digest{d})
	message = append(message, requestFrame(d)...)
	for _, f := range batchFrames(batch{From: 4, Changes: []change{{Claim: claim}, {Claim: claim, Released: true}}}) {
		message = append(message, f...)
	}
	message = append(message, chunkFrame(d, []*held{h}, 0)...)
	for name, test := range map[string]struct {
		bytes []byte
		want  string
	}{
		"a message": {append(appendHeader(nil, 7), message...), "01000000000000000701130100000000000000090501000000000000004d021200000000000000090501000000000000004d032f040201" +
			"04636c7831016ba7b8109dad11d180b400c04fd430c80164ac0200016ba7b8109dad11d180b400c04fd430c8042f000000000000000905" +
			"01000000000000004d00010104636c7831016ba7b8109dad11d180b400c04fd430c80164ac02"},
		"metadata": {encodeMeta(Member{Node: "edge-1", Tier: TierEdge, Build: "v1", Draining: true}), "01010106656467652d31027631"},
	} {
		require.Equal(t, test.want, hex.EncodeToString(test.bytes), name)
	}
}

func TestWireRefuses(t *testing.T) {
	t.Parallel()
	header := appendHeader(nil, 7)
	frame := func(kind byte, body ...byte) []byte { return append(header[:9:9], appendFrame(nil, kind, body)...) }
	eight := make([]byte, 8)
	zero := appendDigest(nil, digest{})
	tests := []struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"other version", append([]byte{9}, eight...)},
		{"short header", header[:5]},
		{"frame longer than the message", append(header[:9:9], frameBatch, 200)},
		{"more digests than bytes", frame(frameDigests, 0xff, 0xff, 0x7f)},
		{"half a digest", frame(frameDigests, append([]byte{1}, eight...)...)},
		{"unknown change", frame(frameBatch, 0, 1, 7, 0, 0)},
		{"more changes than bytes", frame(frameBatch, 0, 0xff, 0x7f)},
		{"version overflow", frame(frameBatch, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0, 0, 0)},
		{"chunk without total", frame(frameChunk, append(zero, 0, 0, 0)...)},
		{"chunk beyond total", frame(frameChunk, append(zero, 2, 2, 0)...)},
		{"too many chunks", frame(frameChunk, append(zero, 0, 0xff, 0xff, 0x7f, 0)...)},
		{"short uuid", frame(frameBatch, 0, 1, 0, 1, 0)},
		{"more changes than a member sends", frame(frameBatch, slices.Concat([]byte{0}, binary.AppendUvarint(nil, batchChanges+1), releases(batchChanges+1))...)},
		{"more claims than a chunk has", frame(frameChunk, slices.Concat(zero, []byte{0, 1}, binary.AppendUvarint(nil, chunkClaims+1), make([]byte, 5*(chunkClaims+1)))...)},
		{"more frames than a member sends", append(header[:9:9], bytes.Repeat([]byte{9, 0}, maxItems+1)...)},
		{"more changes in all", append(header[:9:9], bytes.Repeat(
			appendFrame(nil, frameBatch, slices.Concat([]byte{0}, binary.AppendUvarint(nil, batchChanges), releases(batchChanges))), maxItems/batchChanges+1)...)},
		{"more claims in all", append(header[:9:9], bytes.Repeat(appendFrame(nil, frameChunk, slices.Concat(
			zero, []byte{0, 1}, binary.AppendUvarint(nil, chunkClaims), make([]byte, 5*chunkClaims))), maxItems/chunkClaims+1)...)},
		{"more digests in all", append(header[:9:9], bytes.Repeat(digestsFrame(make([]digest, maxItems/2)), 3)...)},
		{"unknown session kind", frame(frameBatch, 0, 1, 0, 9, 0)},
	}
	for _, test := range tests {
		_, err := decodeMessage(test.data)
		require.ErrorIs(t, err, errMalformed, test.name)
	}
}

// releases are changes in the fewest bytes: of sessions without a name.
func releases(n int) []byte { return bytes.Repeat([]byte{0, 0, 0}, n) }
