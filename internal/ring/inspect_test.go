package ring

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestOfWhatComesForMemberlistOnlyWhatMembersSayIsPassedOn(t *testing.T) {
	t.Parallel()
	plain := settings.Default[Config]()
	keyed := setup{Config: plain}
	withKey(&keyed)
	ping := fields{"SeqNo", 7, "Node", "edge-x"}
	for name, cfg := range map[string]Config{"with keys": keyed.Config, "without": plain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := parseKeys(cfg.GossipKeys)
			require.NoError(t, err)
			by, err := newInspector(cfg.ClusterName, keys)
			require.NoError(t, err)
			h := holderOf(t, cfg)
			for what, text := range overdrawn() {
				require.ErrorIs(t, by.stream(pieces(h.stream(1, text))), errDeclared, what)
				require.ErrorIs(t, by.stream(pieces(h.answer(1, text))), errDeclared, what)
			}
			for what, text := range map[string][]byte{
				"members and state": says(kindPushPull, fields{"Nodes", 2, "UserStateLen", 4, "Join", 1}, member, member, []byte("four")),
				"nothing at all":    says(kindPushPull, fields{"Nodes", 0, "UserStateLen", 0, "Join", []byte{0xc3}}),
				"a later field":     says(kindPushPull, fields{"Nodes", 1, "UserStateLen", 0, "More", list{1, "two"}}, append(member, "New", 1)),
				"a message":         says(kindUser, fields{"UserMsgLen", 4}, []byte("four")),
				"a ping":            says(kindPing, ping),
				"its answer":        says(kindAck, fields{"SeqNo", 7, "Payload", ""}),
				"an error":          says(kindError, fields{"Error", "something"}),
			} {
				require.NoError(t, by.stream(pieces(h.stream(1, text))), what)
				require.NoError(t, by.stream(pieces(h.answer(1, text))), what)
			}
			both := says(kindPing, ping)
			for what, test := range map[string]struct {
				text []byte
				is   error
			}{
				"a ping":                         {both, nil},
				"with a checksum":                {append([]byte{kindChecked, 0, 0, 0, 0}, both...), nil},
				"two in one":                     {slices.Concat([]byte{kindCompound, 2, 0, byte(len(both)), 0, byte(len(both))}, both, both), nil},
				"a message":                      {[]byte{kindUser, 1, 2, 3}, nil},
				"empty":                          {nil, errDeclared},
				"of which nothing follows":       {[]byte{kindCompound}, errDeclared},
				"more parts than there are":      {[]byte{kindCompound, 255, 0, 0}, errDeclared},
				"a longer part than there is":    {slices.Concat([]byte{kindCompound, 2, 0, byte(len(both)), 0, 9}, both), errDeclared},
				"in one in one":                  {append([]byte{kindCompound, 1, 0, 4}, kindCompound, 1, 0, 0), errDeclared},
				"a text longer than the message": {says(kindAlive, []byte{0x81, 0xa4, 'M', 'e', 't', 'a', 0xdb, 0xff, 0xff, 0xff, 0xff}), errDeclared},
				"a list":                         {says(kindAlive, list{1, "x"}), errDeclared},
				"what unpacks to 40 MiB":         {unpacks(), errDeclared},
				"an exchange":                    {says(kindPushPull, fields{"Nodes", 0, "UserStateLen", 0}), errDeclared},
			} {
				require.ErrorIs(t, by.packet(h.packet(1, test.text)), test.is, what)
			}
		})
	}
}

// padded is a ping, with padding longer than itself.
var padded = append(says(kindPing, fields{"SeqNo", 7, "Node", "edge-x"}), 255)

// What is sealed with another key, or for another cluster, memberlist refuses, and
// says so in the log. Sealed in the way of before it would be padded.
func TestWhatIsOfStrangersIsLeftToMemberlist(t *testing.T) {
	t.Parallel()
	s := &setup{Config: settings.Default[Config]()}
	withKey(s)
	keys, err := parseKeys(s.GossipKeys)
	require.NoError(t, err)
	by, err := newInspector("ours", keys)
	require.NoError(t, err)
	ours, theirs := holderOf(t, s.Config), holderOf(t, s.Config)
	ours.cluster, theirs.cluster = "ours", "theirs"
	text := says(kindPushPull, fields{"Nodes", 1 << 20})
	require.NoError(t, by.stream(pieces(theirs.stream(1, text))))
	require.NoError(t, by.packet(theirs.packet(1, text)))
	for _, said := range [][]byte{nil, {kindSealed}, []byte("anything"), text} {
		require.NoError(t, by.packet(said))
	}
	require.NoError(t, by.stream(pieces(text)), "it is not sealed")
	other := bytes.Clone(ours.stream(1, text))
	other[len(other)-1]++
	require.NoError(t, by.stream(pieces(other)), "none of our keys")
	require.ErrorIs(t, by.stream(pieces(ours.stream(0, padded))), errDeclared)
	require.ErrorIs(t, by.packet(ours.packet(0, padded)), errDeclared)
	require.ErrorIs(t, by.stream(pieces(ours.stream(1, nil))), errDeclared)
}

// allocated is how much is allocated meanwhile, by anybody. No other test may run.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

const (
	// attempts are how often each attack is tried.
	attempts = 4
	// few is what an attempt may take beside what it sends.
	few = 4 << 20
)

// Regression: memberlist took 140 MiB for each stream that declared that much, and 80
// for each packet of a few kilobytes.
//
// It is not parallel: it judges what is allocated meanwhile.
func TestWhatIsDeclaredToMemberlistTakesNoRoom(t *testing.T) {
	for name, keyed := range map[string]func(*setup){"with keys": withKey, "without": nil} {
		a := start(t, TierEdge, "a", keyed)
		h := holderOf(t, a.cfg)
		for what, text := range overdrawn() {
			said, answer := h.stream(1, text), h.answer(1, text)
			require.Less(t, allocated(func() {
				for range attempts {
					conn := stranger(t, a)
					_, _ = conn.Write(said) // of which not all may be read
					_ = conn.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, conn)
				}
			}), uint64(attempts*(few+4*len(text))), "%s, %s", what, name)
			require.Less(t, allocated(func() {
				for range attempts {
					require.NotZero(t, a.joins(t, answer), what)
				}
			}), uint64(attempts*(few+4*len(text))), "%s, answered, %s", what, name)
		}
		require.Less(t, allocated(func() {
			for range attempts {
				a.receives(t, h, h.packet(1, unpacks()))
			}
		}), uint64(attempts*few), "a packet, %s", name)
	}
}

// joins has the node join somebody who answers so, and returns how many bytes of the
// node came before.
func (n *node) joins(t *testing.T, answer []byte) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	said := make(chan int, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			said <- 0
			return
		}
		defer func() { _ = conn.Close() }()
		heard, _ := conn.Read(make([]byte, 4096))
		_, _ = conn.Write(answer)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		said <- heard
	}()
	_, err = n.list.Join([]string{listener.Addr().String()})
	require.Error(t, err)
	return <-said
}

// receives has the node receive a packet, and waits until it has been worked on.
func (n *node) receives(t *testing.T, h holder, packet []byte) {
	t.Helper()
	conn, err := net.Dial("udp", n.Self().Address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	_, err = conn.Write(packet)
	require.NoError(t, err)
	_, err = conn.Write(h.packet(1, says(kindPing, fields{"SeqNo", 7, "Node", n.Self().Name})))
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 4096))
	require.NoError(t, err)
}

// Regression: an empty message under the key, or one that was padded as no member
// pads, ended the process.
func TestWhoHasTheKeyEndsNoNode(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", withKey)
	h := holderOf(t, a.cfg)
	for _, said := range [][]byte{h.stream(1, nil), h.stream(0, padded)} {
		conn := stranger(t, a)
		_, err := conn.Write(said)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, conn)
	}
	require.NotZero(t, a.joins(t, h.answer(1, nil)))
	a.receives(t, h, h.packet(0, padded))
	b := start(t, TierEdge, "b", withKey, a)
	meet(t, a, b)
}

// Whatever memberlist makes of a message is paid for before, and given back.
func TestRoomIsTakenForWhatMemberlistMakesOfAMessage(t *testing.T) {
	t.Parallel()
	drops := map[dropReason]int{}
	bounds := newStreams(func(why dropReason) { drops[why]++ })
	by := &inspector{cluster: "c"}
	const size = 4<<20 - 100
	open := func() *inspected {
		s, ok := bounds.enter(played{Reader: bytes.NewReader(says(kindUser, fields{"UserMsgLen", size}, make([]byte, size)))})
		require.True(t, ok)
		return by.inspect(s)
	}
	here := netip.MustParseAddr("192.0.2.1")
	first, second := open(), open()
	n, err := io.Copy(io.Discard, first)
	require.NoError(t, err)
	require.Greater(t, n, int64(size))
	require.False(t, bounds.bytes.Fits(here, openBytes/2-copies*size+1))
	_, err = second.Read(make([]byte, 1))
	require.ErrorIs(t, err, errStreamTooLarge)
	require.Equal(t, 1, drops[dropStreamBytes])
	for _, one := range []*inspected{first, second} {
		require.NoError(t, one.Close())
	}
	require.True(t, bounds.bytes.Fits(here, openBytes/2), "all is given back")

	third := open()
	_, err = io.Copy(io.Discard, third)
	require.NoError(t, err)
	require.NoError(t, third.Close())
}

// Whoever says that more comes than may is not read any further.
func TestAMessageThatIsDeclaredTooLargeIsNotRead(t *testing.T) {
	t.Parallel()
	s := &setup{Config: settings.Default[Config]()}
	withKey(s)
	keys, err := parseKeys(s.GossipKeys)
	require.NoError(t, err)
	by, err := newInspector("c", keys)
	require.NoError(t, err)
	text := bytes.NewReader(append(claimsToBeEncrypted("c", streamBytes+1), make([]byte, streamBytes)...))
	one, ok := newStreams(func(dropReason) {}).enter(played{Reader: text})
	require.True(t, ok)
	_, err = by.inspect(one).Read(make([]byte, 1))
	require.ErrorIs(t, err, errStreamTooLarge)
	require.Greater(t, text.Len(), streamBytes/2)
}

// What a member says of itself memberlist keeps, and tells all others.
func TestWhoSaysMoreOfItselfThanAMemberIsNone(t *testing.T) {
	t.Parallel()
	counts := newMetrics(prometheus.NewRegistry())
	m := newDelegate(selfFor(TierEdge), newTable("a-1"), newInbox(counts), counts, true)
	meta := encodeMeta(Member{Node: strings.Repeat("n", maxNodeBytes), Tier: TierEdge, Build: strings.Repeat("b", maxBuildBytes)})
	node := memberlist.Node{Name: strings.Repeat("n", maxNodeBytes) + "-abcdefghijklm", Addr: net.IPv6loopback, Port: 1, Meta: meta}
	require.NoError(t, m.NotifyAlive(&node))
	for name, change := range map[string]func(*memberlist.Node){
		"name":     func(n *memberlist.Node) { n.Name = strings.Repeat("n", 1<<20) },
		"address":  func(n *memberlist.Node) { n.Addr = make([]byte, 17) },
		"metadata": func(n *memberlist.Node) { n.Meta = append(slices.Clone(meta), make([]byte, 512)...) },
	} {
		other := node
		change(&other)
		require.Error(t, m.NotifyAlive(&other), name)
	}
}
