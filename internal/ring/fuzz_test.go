package ring

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// encoded writes a message as a member does, but for chunks and batches, which
// may be cut in a way that no member cuts them.
func encoded(m message) []byte {
	data := append(appendHeader(nil, m.Sender), digestsFrame(m.Digests)...)
	for _, d := range m.Requests {
		data = append(data, requestFrame(d)...)
	}
	for _, b := range m.Batches {
		if len(b.Changes) == 0 {
			data = appendFrame(data, frameBatch, append(binary.AppendUvarint(nil, b.From), 0))
		}
		data = append(data, slices.Concat(batchFrames(b)...)...)
	}
	for _, c := range m.Chunks {
		body := appendDigest(nil, c.Digest)
		for _, n := range []int{c.Index, c.Total, len(c.Claims)} {
			body = binary.AppendUvarint(body, uint64(n))
		}
		for _, claim := range c.Claims {
			body = appendClaim(body, claim)
		}
		data = appendFrame(data, frameChunk, body)
	}
	return data
}

// texts counts what a message says of claims, in bytes and in claims and changes.
func (m message) texts() (bytes, items int) {
	var all []Claim
	for _, b := range m.Batches {
		for _, c := range b.Changes {
			all = append(all, c.Claim)
		}
	}
	for _, c := range m.Chunks {
		all = append(all, c.Claims...)
	}
	for _, c := range all {
		bytes += len(c.Orchestrator) + len(c.Session) + len(c.Daemon)
	}
	return bytes, len(all)
}

// What a member says is bounded by its length and by maxItems, and said again it
// is read as the same.
func FuzzMessages(f *testing.F) {
	w := history(rand.New(rand.NewPCG(3, 4)), "edge-a", 20)
	d, claims := w.snapshot()
	header := appendHeader(nil, w.own.id)
	f.Add(append(slices.Clone(header), digestsFrame([]digest{d})...))
	f.Add(append(slices.Clone(header), requestFrame(d)...))
	f.Add(append(slices.Clone(header), chunkFrame(d, claims, 0)...))
	f.Add(append(slices.Clone(header), batchFrames(w.all)[0]...))
	f.Add(appendFrame(slices.Clone(header), 9, []byte("new")))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMessage(data)
		if err != nil {
			require.ErrorIs(t, err, errMalformed)
			quotetest.RequireLittle(t, data, err)
			return
		}
		bytes, items := m.texts()
		require.LessOrEqual(t, m.items, maxItems)
		require.LessOrEqual(t, items+len(m.Digests)+len(m.Requests), m.items)
		require.LessOrEqual(t, bytes, 3*len(data), "16 bytes of a UUID become 36")
		for _, b := range m.Batches {
			require.GreaterOrEqual(t, b.end(), b.From)
		}
		for _, c := range m.Chunks {
			require.Less(t, c.Index, c.Total)
			require.LessOrEqual(t, c.Total, maxChunks)
		}
		again, err := decodeMessage(encoded(m))
		require.NoError(t, err)
		m.items, again.items, m.Unknown = 0, 0, 0 // frames may have been put together
		require.Equal(t, m, again)
	})
}

// Metadata that a member may have had is read as it was meant, and nothing else
// is taken for a member.
func FuzzMetadata(f *testing.F) {
	f.Add(encodeMeta(Member{Node: "edge-1", Tier: TierEdge, Build: "v1", Draining: true}))
	f.Add(encodeMeta(Member{Node: "router-1", Tier: TierRouter}))
	f.Add([]byte{metaVersion, 3, 0, 0, 0})
	f.Add([]byte{metaVersion, metaEdge, 0, 200, 'x'})
	f.Fuzz(func(t *testing.T, meta []byte) {
		node := &memberlist.Node{Name: "node", Addr: net.IPv4(127, 0, 0, 1), Port: 7946, Meta: meta}
		m, err := decodeMember(node)
		if err != nil {
			require.Zero(t, m)
			quotetest.RequireLittle(t, meta, err)
			return
		}
		require.LessOrEqual(t, len(m.Node)+len(m.Build), len(meta))
		node.Meta = encodeMeta(m)
		again, err := decodeMember(node)
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}

// played is a connection that brings bytes and takes any.
type played struct {
	net.Conn
	*bytes.Reader
}

func (c played) Read(p []byte) (int, error)    { return c.Reader.Read(p) }
func (played) Write(p []byte) (int, error)     { return len(p), nil }
func (played) Close() error                    { return nil }
func (played) SetDeadline(time.Time) error     { return nil }
func (played) SetReadDeadline(time.Time) error { return nil }
func (played) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5} }
func framed(dst []byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(message))), message...)
}

// Without the key nobody has a message taken in, and who plays back what a member
// has sent has its messages taken in their order alone. What a stream holds is
// given back when it ends.
func FuzzStreams(f *testing.F) {
	const cluster = "c"
	keys, err := parseKeys([]settings.Secret{"bm90IGEgc2VjcmV0LCBmb3IgdGVzdHMgYWxvbmUhISE="})
	require.NoError(f, err)
	head := append([]byte{standingVersion}, make([]byte, saltBytes)...)
	head = append(append(head, byte(len(cluster))), cluster...)
	seal, err := newSealing(keys.GetPrimaryKey(), make([]byte, saltBytes), cluster)
	require.NoError(f, err)
	told := []string{"first", "", "a longer one"}
	sealed, plain := slices.Clone(head), slices.Clone(head)
	for _, message := range told {
		sealed, plain = framed(sealed, seal.seal(nil, []byte(message))), framed(plain, []byte(message))
	}
	f.Add(sealed, true)
	f.Add(sealed[:len(sealed)-1], true)
	f.Add(plain, false)
	f.Add(plain, true)
	f.Add(append(slices.Clone(head), 0xff, 0xff, 0xff, 0xff, 'x'), false)
	f.Fuzz(func(t *testing.T, data []byte, keyed bool) {
		taken := []string{}
		r := &receiver{
			cluster: cluster, bounds: newStreams(func(dropReason) {}), logger: slog.New(slog.DiscardHandler),
			take: func(message []byte) { taken = append(taken, string(message)) },
		}
		if keyed {
			r.keys = keys
		}
		conn := played{Reader: bytes.NewReader(data)}
		s, ok := r.bounds.enter(conn)
		require.True(t, ok)
		r.serve(s)
		require.True(t, r.bounds.places.Fits(s.from, maxStreams/2), "nothing is held any more")
		require.True(t, r.bounds.standing.Fits(s.from, maxStanding/2))
		require.True(t, r.bounds.bytes.Fits(s.from, openBytes/2))
		if keyed {
			require.LessOrEqual(t, len(taken), len(told))
			require.Equal(t, told[:len(taken)], taken)
			return
		}
		total := 0
		for _, message := range taken {
			total += 4 + len(message)
		}
		require.LessOrEqual(t, total, len(data))
		require.True(t, len(taken) == 0 || bytes.HasPrefix(data, []byte{standingVersion}))
	})
}

// Whatever members say one after the other, in their own names or another's,
// what a node has of their claims agrees with itself: no digest that tells of
// other claims than there are, none found that is not held, none counted twice.
func FuzzMemberStates(f *testing.F) {
	w := history(rand.New(rand.NewPCG(5, 6)), "edge-a", 12)
	d, claims := w.snapshot()
	header := appendHeader(nil, w.own.id)
	half := batch{Changes: w.all.Changes[:6]}
	rest := batch{From: 6, Changes: w.all.Changes[6:]}
	say := func(frames ...[]byte) []byte { return append(slices.Clone(header), slices.Concat(frames...)...) }
	ahead := d
	ahead.Version += 7
	f.Add(say(batchFrames(half)...), say(batchFrames(rest)...), say(digestsFrame([]digest{d})))
	f.Add(say(batchFrames(rest)...), say(batchFrames(half)...), say(chunkFrame(d, claims, 0)))
	f.Add(say(digestsFrame([]digest{ahead})), say(chunkFrame(ahead, claims, 0)), say(batchFrames(half)...))
	metrics := newMetrics(prometheus.NewRegistry())
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		own := history(rand.New(rand.NewPCG(7, 8)), "edge-own", 9)
		before := *own.own.digest.Load()
		follower := newFollower(own.table, metrics)
		now := time.Unix(1_700_000_000, 0)
		for _, name := range []string{"edge-a", "edge-b"} {
			follower.join(now, name)
		}
		for _, data := range [][]byte{first, second, third} {
			m, err := decodeMessage(data)
			if err != nil {
				continue
			}
			for _, d := range m.Digests {
				follower.digest(now, d)
			}
			for _, b := range m.Batches {
				follower.batch(now, m.Sender, b)
			}
			now = now.Add(behindGrace)
			require.LessOrEqual(t, len(follower.due(now)), maxRequests)
			for _, c := range m.Chunks {
				follower.chunk(now, c)
			}
			requireConsistent(t, own.table)
		}
		require.Equal(t, before, *own.own.digest.Load(), "nobody else says what this edge holds")
		for _, e := range follower.edges {
			require.LessOrEqual(t, len(e.early), maxHeld)
		}
		follower.leave("edge-a")
		requireConsistent(t, own.table)
	})
}

func requireConsistent(t *testing.T, table *table) {
	t.Helper()
	held := contents(table)
	found := map[Holding]int{}
	table.index.each(func(token event.Token) {
		for _, h := range table.index.holdings(token) {
			found[h]++
		}
	})
	require.Equal(t, held, found)
	daemons := 0
	for _, e := range *table.live.Load() {
		d := digest{Edge: e.id, Version: e.version}
		for holding := range held {
			if holding.Edge == e.name {
				d.Count++
				d.Hash += holding.Claim.sum()
				if !strings.HasPrefix(string(holding.Claim.Orchestrator), "_canary_") {
					daemons++
				}
			}
		}
		require.Equal(t, d, *e.digest.Load())
	}
	require.EqualValues(t, daemons, table.total.Load())
}

// Of what comes for memberlist only that is passed on which has all that it declares.
func FuzzWhatComesForMemberlist(f *testing.F) {
	const most = 64 << 10
	for _, text := range overdrawn() {
		if len(text) < most {
			f.Add(text)
		}
	}
	f.Add(says(kindPushPull, fields{"Nodes", 1, "UserStateLen", 4, "Join", 1}, member, []byte("four")))
	f.Add(says(kindUser, fields{"UserMsgLen", 4}, []byte("four")))
	f.Add(append([]byte{kindLabelled, 1, 'c', kindCompound, 1, 0, 3, kindPing, 0x81, 0}, 0))
	by := &inspector{cluster: "c"}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, err := range []error{by.packet(data), by.stream(pieces(data))} {
			if err != nil {
				require.ErrorIs(t, err, errDeclared)
				quotetest.RequireLittle(t, data, err)
			}
		}
		if len(data) == 0 || data[0] != kindPushPull || by.stream(pieces(data)) != nil {
			return
		}
		w := walker{next: pieces(data[1:])}
		declared := w.structure("Nodes", "UserStateLen")
		require.LessOrEqual(t, declared[0]*leastState+declared[1], uint64(len(data)))
	})
}
