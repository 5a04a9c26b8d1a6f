package ring

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
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
