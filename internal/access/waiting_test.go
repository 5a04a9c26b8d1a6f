package access

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Any series of what may happen, beside an account that is kept in the plainest way.
func TestWhoHasToGoIsOfTheNetworkWithTheMost(t *testing.T) {
	t.Parallel()
	type entry struct {
		conn    *Conn
		network netip.Addr // invalid: not known
	}
	random := rand.New(rand.NewPCG(1, 2))
	networks := []netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::")}
	var w waiting
	var list []entry // the one used least recently first
	size := func(network netip.Addr) (n int) {
		if !network.IsValid() {
			return 1
		}
		for _, e := range list {
			if e.network == network {
				n++
			}
		}
		return n
	}
	for range 20_000 {
		at := 0
		if len(list) > 0 {
			at = random.IntN(len(list))
		}
		network := networks[random.IntN(len(networks))]
		switch action := random.IntN(5); {
		case len(list) == 0 || action < 2 && len(list) < 30:
			list = append(list, entry{&Conn{}, network})
			w.add(list[len(list)-1].conn, network)
		case action == 2:
			e := list[at]
			list = append(slices.Delete(list, at, at+1), e)
			w.use(e.conn)
		case action == 3:
			e := list[at]
			list = append(slices.Delete(list, at, at+1), entry{e.conn, network})
			w.move(e.conn, network)
		default:
			w.remove(list[at].conn)
			w.remove(list[at].conn) // of no effect
			w.use(list[at].conn)
			list = slices.Delete(list, at, at+1)
		}
		require.Equal(t, len(list), w.count)
		if len(list) == 0 {
			continue
		}
		var want entry
		for _, e := range list {
			if want.conn == nil || size(e.network) > size(want.network) {
				want = e
			}
		}
		require.Same(t, want.conn, w.next())
	}
	for _, e := range list {
		w.remove(e.conn)
	}
	require.Empty(t, w.crowds)
	require.Empty(t, w.order)
}

// Of IPv6 one machine has as many addresses as it likes.
func TestWhatCountsAsOneClient(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::", "2001:db8:0:0:ffff::1": "2001:db8::",
		"2001:db8:0:1::1": "2001:db8:0:1::", "fe80::1%eth0": "fe80::",
	} {
		require.Equal(t, want, Network(netip.MustParseAddr(addr)).String(), addr)
	}
	require.False(t, Network(netip.Addr{}).IsValid())
}
