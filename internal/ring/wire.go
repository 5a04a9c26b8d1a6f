package ring

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// What members say to each other. A message is
//
//	version(1) sender(8) { kind(1) length body } ...
//
// with integers as uvarints, ids and hashes as 8 bytes, texts with their length
// before them. Everything but digests is about the sender's own claims.
//
//	digests   count { edge(8) version count hash(8) }      push/pull, ping, answer
//	request   edge(8) version count hash(8)                what the asker has
//	batch     from count { change }                        every 50 ms at most
//	chunk     edge(8) version count hash(8) index total count { claim }
//	change    0 session | 1 claim
//	claim     token session daemon generation
//	session   0 text | 1 uuid(16)
//
// An edge answers a request with its digest when the asker has all, else with
// its snapshot, in chunks far below memberlist's limit of 20 MB a message.

// What a later version has to say in addition is a frame of a new kind, which
// earlier ones skip.

// wireVersion starts every message. History: 1, the first.
const wireVersion = 1

const (
	frameDigests byte = 1
	frameRequest byte = 2
	frameBatch   byte = 3
	frameChunk   byte = 4
)

const (
	// chunkClaims and batchChanges bound a frame to about 1.3 MB even with ids
	// of 128 bytes in their longest encoding.
	chunkClaims  = 2000
	batchChanges = 2000
	// maxChunks bounds what a peer can make us wait for: a million claims.
	maxChunks = 500
	// maxItems bounds what a message may be about, which takes twenty times the
	// room that it has in a message. A member that puts together what waits for
	// another, of messageBytes, has half as many at most.
	maxItems = 32_768
	// digestBytes is the most that one digest takes.
	digestBytes = 8 + 2*binary.MaxVarintLen64 + 8
	digestLeast = 8 + 2 + 8
	headerBytes = 1 + 8
	frameBytes  = 1 + binary.MaxVarintLen32
)

// chunk is a part of the snapshot that Digest describes.
type chunk struct {
	Digest digest
	Index  int
	Total  int
	Claims []Claim
}

// message is what one member sends to another in one go.
type message struct {
	Sender   edgeID
	Digests  []digest
	Requests []digest
	Batches  []batch
	Chunks   []chunk
	Unknown  int // frames of kinds that only newer versions know

	items int // all of these together
}

// errMalformed is wrapped by every error of decodeMessage.
var errMalformed = errors.New("malformed directory message")

func appendHeader(buf []byte, sender edgeID) []byte {
	return binary.BigEndian.AppendUint64(append(buf, wireVersion), uint64(sender))
}

func appendFrame(buf []byte, kind byte, body []byte) []byte {
	buf = binary.AppendUvarint(append(buf, kind), uint64(len(body)))
	return append(buf, body...)
}

func digestsFrame(digests []digest) []byte {
	body := binary.AppendUvarint(nil, uint64(len(digests)))
	for _, d := range digests {
		body = appendDigest(body, d)
	}
	return appendFrame(nil, frameDigests, body)
}

func requestFrame(have digest) []byte {
	return appendFrame(nil, frameRequest, appendDigest(nil, have))
}

// batchFrames splits the changes into frames of bounded size.
func batchFrames(b batch) [][]byte {
	var frames [][]byte
	for from, rest := b.From, b.Changes; len(rest) > 0; {
		n := min(len(rest), batchChanges)
		body := binary.AppendUvarint(nil, from)
		body = binary.AppendUvarint(body, uint64(n))
		for _, c := range rest[:n] {
			if c.Released {
				body = appendSession(append(body, 0), c.Claim.Session)
			} else {
				body = appendClaim(append(body, 1), c.Claim)
			}
		}
		frames = append(frames, appendFrame(nil, frameBatch, body))
		from, rest = from+uint64(n), rest[n:]
	}
	return frames
}

// chunksOf returns into how many chunks a snapshot is cut, at least one.
func chunksOf(claims int) int { return max(1, (claims+chunkClaims-1)/chunkClaims) }

// chunkFrame encodes one chunk of a snapshot.
func chunkFrame(d digest, claims []*held, index int) []byte {
	part := claims[min(len(claims), index*chunkClaims):min(len(claims), (index+1)*chunkClaims)]
	body := appendDigest(make([]byte, 0, 64+128*len(part)), d)
	body = binary.AppendUvarint(body, uint64(index))
	body = binary.AppendUvarint(body, uint64(chunksOf(len(claims))))
	body = binary.AppendUvarint(body, uint64(len(part)))
	for _, h := range part {
		body = appendClaim(body, h.Claim)
	}
	return appendFrame(nil, frameChunk, body)
}

func appendDigest(buf []byte, d digest) []byte {
	buf = binary.BigEndian.AppendUint64(buf, uint64(d.Edge))
	buf = binary.AppendUvarint(buf, d.Version)
	buf = binary.AppendUvarint(buf, d.Count)
	return binary.BigEndian.AppendUint64(buf, d.Hash)
}

func appendClaim(buf []byte, c Claim) []byte {
	buf = appendText(buf, string(c.Orchestrator))
	buf = appendSession(buf, c.Session)
	buf = appendText(buf, string(c.Daemon))
	return binary.AppendUvarint(buf, c.Generation)
}

func appendText(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

// appendSession writes the usual session id, a UUID, in 16 bytes.
func appendSession(buf []byte, id protocol.SessionID) []byte {
	var uuid [16]byte
	if parseUUID(&uuid, string(id)) {
		return append(append(buf, 1), uuid[:]...)
	}
	return appendText(append(buf, 0), string(id))
}

// parseUUID reads a UUID in its one canonical form, lower case with dashes.
func parseUUID(uuid *[16]byte, s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	at := 0
	for i := 0; i < 36; i += 2 {
		if s[i] == '-' {
			i++
		}
		hi, lo := hexDigit(s[i]), hexDigit(s[i+1])
		if hi|lo > 15 {
			return false
		}
		uuid[at] = hi<<4 | lo
		at++
	}
	return true
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// decodeMessage reads a message. It keeps no reference to data.
func decodeMessage(data []byte) (message, error) {
	r := reader{data: data}
	if v := r.byte(); r.err == nil && v != wireVersion {
		return message{}, fmt.Errorf("%w: version %d, expected %d", errMalformed, v, wireVersion)
	}
	m := message{Sender: edgeID(r.fixed())}
	for r.err == nil && len(r.data) > 0 {
		kind := r.byte()
		r.frame(&m, kind, reader{data: r.bytes()})
	}
	if r.err != nil {
		return message{}, fmt.Errorf("%w: %w", errMalformed, r.err)
	}
	return m, nil
}

// frame reads one frame's body into the message.
func (r *reader) frame(m *message, kind byte, body reader) {
	if r.err != nil {
		return
	}
	m.items++
	switch kind {
	case frameDigests:
		n := body.count(digestLeast, maxItems)
		m.items += n
		for range n {
			m.Digests = append(m.Digests, body.digest())
		}
	case frameRequest:
		m.Requests = append(m.Requests, body.digest())
	case frameBatch:
		m.Batches = append(m.Batches, body.batch())
		m.items += len(m.Batches[len(m.Batches)-1].Changes)
	case frameChunk:
		m.Chunks = append(m.Chunks, body.chunk())
		m.items += len(m.Chunks[len(m.Chunks)-1].Claims)
	default:
		m.Unknown++ // of a newer version, in a rolling upgrade
	}
	if r.err = body.err; m.items > maxItems {
		r.fail(errBounds)
	}
}

// reader keeps the first fault and yields zero values after it.
type reader struct {
	data    []byte
	scratch []byte
	err     error
}

var (
	errShort  = errors.New("ends too early")
	errBounds = errors.New("a number is out of bounds")
)

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.data = nil
}

func (r *reader) byte() byte {
	if len(r.data) == 0 {
		r.fail(errShort)
		return 0
	}
	c := r.data[0]
	r.data = r.data[1:]
	return c
}

func (r *reader) fixed() uint64 {
	if len(r.data) < 8 {
		r.fail(errShort)
		return 0
	}
	v := binary.BigEndian.Uint64(r.data)
	r.data = r.data[8:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.data = r.data[n:]
	return v
}

// count reads how many items follow, at most so many, that take at least size
// bytes each.
func (r *reader) count(size, most int) int {
	n := r.uvarint()
	if n > uint64(min(most, len(r.data)/size)) {
		r.fail(errBounds)
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.data)) {
		r.fail(errShort)
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) digest() digest {
	return digest{Edge: edgeID(r.fixed()), Version: r.uvarint(), Count: r.uvarint(), Hash: r.fixed()}
}

func (r *reader) batch() batch {
	b := batch{From: r.uvarint()}
	for range r.count(3, batchChanges) {
		switch r.byte() {
		case 0:
			b.Changes = append(b.Changes, change{Released: true, Claim: Claim{Session: r.session()}})
		case 1:
			b.Changes = append(b.Changes, change{Claim: r.claim()})
		default:
			r.fail(errors.New("unknown kind of change"))
		}
	}
	if b.end() < b.From {
		r.fail(errBounds)
	}
	return b
}

func (r *reader) chunk() chunk {
	c := chunk{Digest: r.digest()}
	index, total := r.uvarint(), r.uvarint()
	if total == 0 || total > maxChunks || index >= total {
		r.fail(errBounds)
		return c
	}
	c.Index, c.Total = int(index), int(total)
	n := r.count(5, chunkClaims)
	c.Claims = make([]Claim, 0, n)
	for range n {
		c.Claims = append(c.Claims, r.claim())
	}
	return c
}

func (r *reader) session() protocol.SessionID {
	r.scratch = r.appendSession(r.scratch[:0])
	return protocol.SessionID(r.text())
}

// claim reads a claim into one allocation.
func (r *reader) claim() Claim {
	r.scratch = append(r.scratch[:0], r.bytes()...)
	a := len(r.scratch)
	r.scratch = r.appendSession(r.scratch)
	b := len(r.scratch)
	r.scratch = append(r.scratch, r.bytes()...)
	text := r.text()
	return Claim{
		Orchestrator: event.Token(text[:a]), Session: protocol.SessionID(text[a:b]),
		Daemon: protocol.DaemonID(text[b:]), Generation: r.uvarint(),
	}
}

func (r *reader) appendSession(dst []byte) []byte {
	switch r.byte() {
	case 0:
		return append(dst, r.bytes()...)
	case 1:
		return r.appendUUID(dst)
	default:
		r.fail(errors.New("unknown kind of session id"))
		return dst
	}
}

func (r *reader) appendUUID(dst []byte) []byte {
	if len(r.data) < 16 {
		r.fail(errShort)
		return dst
	}
	u := r.data[:16]
	r.data = r.data[16:]
	for i, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}
