package ring

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

func withKey(s *setup) {
	s.GossipKeys = []settings.Secret{settings.Secret(base64.StdEncoding.EncodeToString(slices.Repeat([]byte("k"), 32)))}
}

// stranger opens a stream to a node.
func stranger(t *testing.T, n *node) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.Self().Address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	return conn
}

// claimsToBeEncrypted is how an encrypted message of so many bytes begins, by
// memberlist's format: label, kind of message, length.
func claimsToBeEncrypted(cluster string, length uint32) []byte {
	head := append([]byte{244, byte(len(cluster))}, cluster...)
	return binary.BigEndian.AppendUint32(append(head, 10), length)
}

// A node with keys took 20 MiB of each of them into memory before it looked for
// the key.
func TestStrangersStreamsAreNotReadFar(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", withKey)
	drops := func() float64 { return testutil.ToFloat64(a.metrics.drops.Of(dropStreamBytes)) }
	for range 3 {
		before := drops()
		conn := stranger(t, a)
		_, err := conn.Write(claimsToBeEncrypted(a.cfg.ClusterName, 20<<20))
		require.NoError(t, err)
		sent, piece := 0, make([]byte, 64<<10)
		for err == nil && sent < 20<<20 {
			var n int
			n, err = conn.Write(piece)
			sent += n
		}
		require.Error(t, err, "the node has taken all of it")
		require.Eventually(t, func() bool { return drops() > before }, soon, poll)
	}
	start(t, TierEdge, "b", withKey, a)
	require.Eventually(t, func() bool { return len(a.Members(TierEdge)) == 2 }, soon, poll)
}

func TestAnAddressOpensOnlySoManyStreams(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", withKey)
	for range maxStreams {
		stranger(t, a)
	}
	require.Eventually(t, func() bool { return testutil.ToFloat64(a.metrics.drops.Of(dropStreams)) >= 1 }, soon, poll)
	start(t, TierEdge, "b", withKey, a)
	require.Eventually(t, func() bool { return len(a.Members(TierEdge)) == 2 }, soon, poll)
}

// from is a connection from an address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }
func (from) Close() error           { return nil }

// Regression: each address of an IPv6 network had a share of its own.
func TestAnIPv6NetworkHasTheShareOfAnAddress(t *testing.T) {
	t.Parallel()
	refused := 0
	s := newStreams(func(dropReason) { refused++ })
	opened := 0
	for n := range 2 * maxStreams {
		if _, ok := s.enter(from{addr: fmt.Sprintf("[2001:db8::%x]:1", n+1)}); ok {
			opened++
		}
	}
	require.Equal(t, maxStreams/2, opened)
	require.Equal(t, 2*maxStreams-opened, refused)
	for _, addr := range []string{"[2001:db8:0:1::1]:1", "192.0.2.1:1", "[::ffff:192.0.2.2]:1"} {
		_, ok := s.enter(from{addr: addr})
		require.True(t, ok, addr)
	}
}

// Read never ends.
func (f from) Read(p []byte) (int, error) { return len(p), nil }

// Of a stream so much is read, of those of an address its share, whoever sends what,
// and what has been read counts for as long as the stream is open. Checked by taking
// out each of the two bounds, and what Close gives back.
func TestOfStreamsNoMoreIsReadThanTheirBounds(t *testing.T) {
	t.Parallel()
	drops := map[dropReason]int{}
	s := newStreams(func(why dropReason) { drops[why]++ })
	open := func(addr string) *stream {
		one, ok := s.enter(from{addr: addr})
		require.True(t, ok)
		return one
	}
	read := func(one *stream) int64 {
		n, err := io.Copy(io.Discard, io.LimitReader(one, 2*openBytes))
		require.ErrorIs(t, err, errStreamTooLarge)
		return n
	}
	const piece = 32 << 10 // that io.Copy reads at once
	const share = openBytes / 2 / streamBytes
	var all []*stream
	for range share {
		all = append(all, open("192.0.2.1:1"))
		require.InDelta(t, streamBytes, read(all[len(all)-1]), piece)
	}
	fifth := open("192.0.2.1:1")
	require.LessOrEqual(t, read(fifth), int64(piece*share), "the address has had its share")
	require.InDelta(t, streamBytes, read(open("192.0.2.2:1")), piece, "and another has one too")
	require.Equal(t, share+2, drops[dropStreamBytes])

	for _, one := range append(all, fifth) {
		require.NoError(t, one.Close())
		require.NoError(t, one.Close(), "which gives nothing back twice")
	}
	again := open("192.0.2.1:1")
	require.InDelta(t, streamBytes, read(again), piece)
	require.NoError(t, again.Close())
	require.True(t, s.places.Fits(netip.MustParseAddr("192.0.2.3"), (maxStreams-1)/2), "places are given back as well")
}

// A stream that stays open takes a place among those, of which an address has its
// share, and gives the other back.
func TestAnAddressKeepsOnlySoManyStreamsOpen(t *testing.T) {
	t.Parallel()
	refused := 0
	s := newStreams(func(dropReason) { refused++ })
	var all []*stream
	for range maxStanding/2 + 1 {
		one, ok := s.enter(from{addr: "192.0.2.1:1"})
		require.True(t, ok, "those that stay take no place of those that come")
		if !one.stay() {
			require.NoError(t, one.Close())
			break
		}
		all = append(all, one)
	}
	require.Len(t, all, maxStanding/2)
	require.Equal(t, 1, refused)
	other, ok := s.enter(from{addr: "192.0.2.2:1"})
	require.True(t, ok)
	require.True(t, other.stay())
	for _, one := range append(all, other) {
		require.NoError(t, one.Close())
	}
	require.True(t, s.places.Fits(netip.Addr{}, maxStreams/2))
	require.True(t, s.standing.Fits(netip.Addr{}, maxStanding/2))
}

// A stream is moved there by its first message, which has shown that the sender has a
// key, and ends where there is no place.
func TestAMembersStreamTakesAPlaceAmongThoseThatStay(t *testing.T) {
	t.Parallel()
	e := receiveWith(t, keyring(t, "k"))
	here := netip.MustParseAddr("127.0.0.1")
	one, other := e.from(keyring(t, "k")), e.from(keyring(t, "k"))
	require.NoError(t, one.send([]byte("message")))
	require.Equal(t, "message", <-e.messages)
	require.True(t, e.receiver.bounds.places.Fits(here, maxStreams/2))
	require.False(t, e.receiver.bounds.standing.Fits(here, maxStanding/2))
	one.close()

	full := func() bool { return e.receiver.bounds.standing.Take(here, maxStanding/2) }
	require.Eventually(t, full, soon, poll, "the first has gone")
	defer other.close()
	require.Error(t, other.send([]byte("message")))
	require.Empty(t, e.messages)
}

// Whoever opens a stream and says no more holds a place for a moment.
func TestAStreamOnWhichNothingComesEnds(t *testing.T) {
	t.Parallel()
	opening := append([]byte{standingKind, standingVersion}, make([]byte, saltBytes)...)
	for name, said := range map[string][]byte{"nothing": nil, "the kind": opening[:1], "half of the beginning": opening} {
		synctest.Test(t, func(t *testing.T) {
			r := &receiver{cluster: "c", keys: keyring(t, "k"), bounds: newStreams(func(dropReason) {}), logger: slog.New(slog.DiscardHandler)}
			client, theirs := net.Pipe()
			began := time.Now()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				s, ok := r.bounds.enter(theirs)
				require.True(t, ok)
				if _, err := s.begin(); err != nil {
					_ = s.Close()
					return
				}
				r.serve(s)
			}()
			if len(said) > 0 {
				_, err := client.Write(said)
				require.NoError(t, err)
			}
			<-ended
			require.LessOrEqual(t, time.Since(began), 2*sendTimeout, name)
			require.True(t, r.bounds.places.Fits(netip.Addr{}, maxStreams/2), name)
		})
	}
}
