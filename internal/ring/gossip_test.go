package ring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

func selfFor(tier Tier) Member {
	return Member{Name: "a-1", Node: "a", Tier: tier, Address: "127.0.0.1:1", Build: "b"}
}

// memberlist calls its delegate before its constructor has returned, so the
// delegate must be whole without it.
func TestDelegateNeedsNoMemberlist(t *testing.T) {
	t.Parallel()
	m := newMetrics(prometheus.NewPedanticRegistry())
	d := newDelegate(selfFor(TierEdge), newTable("a-1"), newInbox(m), m, true)
	other := &memberlist.Node{Name: "b-1", Addr: net.IPv4(127, 0, 0, 1), Port: 1, Meta: encodeMeta(selfFor(TierRouter))}
	d.NotifyJoin(other)
	d.NotifyUpdate(other)
	d.NotifyLeave(other)
	d.NotifyMsg([]byte("message"))
	d.MergeRemoteState(d.LocalState(true), true)
	d.MergeRemoteState(nil, false)
	d.NotifyPingComplete(other, 0, d.AckPayload())
	d.NotifyPingComplete(other, 0, nil)
	require.NoError(t, d.NotifyAlive(other))
	require.Error(t, d.NotifyAlive(&memberlist.Node{Name: "c", Meta: []byte("?")}))
	require.Error(t, d.NotifyAlive(&memberlist.Node{Name: "c"}))
	require.Empty(t, d.GetBroadcasts(2, 1000))
	members, messages := d.inbox.take()
	require.Len(t, members, 1)
	require.False(t, members["b-1"].live, "the latest state counts")
	require.Len(t, messages, 3)
}

// The buffers that callbacks are given are not theirs to keep.
func TestInboxCopies(t *testing.T) {
	t.Parallel()
	b := newInbox(newMetrics(prometheus.NewRegistry()))
	data := []byte("message")
	n := &memberlist.Node{Name: "a", Addr: net.IPv4(127, 0, 0, 1).To4(), Meta: []byte("meta")}
	b.put(data)
	b.member(n, true)
	clear(data)
	clear(n.Addr)
	clear(n.Meta)
	members, messages := b.take()
	require.Equal(t, "message", string(messages[0]))
	require.Equal(t, "127.0.0.1", members["a"].node.Addr.String())
	require.Equal(t, "meta", string(members["a"].node.Meta))
}

func TestInboxIsBounded(t *testing.T) {
	t.Parallel()
	m := newMetrics(prometheus.NewRegistry())
	b := newInbox(m)
	for range inboxMessages + 3 {
		b.put([]byte("x"))
	}
	require.Equal(t, inboxMessages, b.length())
	require.InDelta(t, 3, testutil.ToFloat64(m.drops.Of(dropInboxFull)), 0)
	b.take()
	b.put(make([]byte, inboxBytes))
	b.put([]byte("x"))
	require.Equal(t, 1, b.length())
}

// The ping's answer stays small however many edges there are, always tells of
// the edge itself, and of every other edge in turn.
func TestAckPayloadIsBoundedAndTakesTurns(t *testing.T) {
	t.Parallel()
	for _, tier := range []Tier{TierEdge, TierRouter} {
		m := newMetrics(prometheus.NewRegistry())
		own := ""
		if tier == TierEdge {
			own = "a-1"
		}
		table := newTable(own)
		want := make(map[edgeID]bool)
		for i := range 100 {
			name := "edge-" + strconv.Itoa(i)
			table.addEdge(name)
			want[idOf(name)] = true
		}
		d := newDelegate(selfFor(tier), table, newInbox(m), m, true)
		for range 30 {
			payload := d.AckPayload()
			require.LessOrEqual(t, len(payload), ackPayloadBytes)
			got, err := decodeMessage(payload)
			require.NoError(t, err)
			if tier == TierEdge {
				require.Equal(t, idOf("a-1"), got.Digests[0].Edge)
			}
			for _, x := range got.Digests {
				delete(want, x.Edge)
			}
		}
		require.Empty(t, want, tier)
	}
	m := newMetrics(prometheus.NewRegistry())
	_, err := decodeMessage(newDelegate(selfFor(TierRouter), newTable(""), newInbox(m), m, true).AckPayload())
	require.NoError(t, err, "a router that knows no edge")
}

// Reports: hashicorp/memberlist#191, grafana-cold-storage/metrictank#1422.
func TestMetadataFits(t *testing.T) {
	t.Parallel()
	m := Member{Node: strings.Repeat("n", maxNodeBytes), Build: strings.Repeat("b", maxBuildBytes), Tier: TierRouter, Draining: true}
	meta := encodeMeta(m)
	require.LessOrEqual(t, len(meta), memberlist.MetaMaxSize)
	got, err := decodeMember(&memberlist.Node{Name: "x", Addr: net.IPv4(10, 0, 0, 7), Port: 7946, Meta: meta})
	require.NoError(t, err)
	m.Name, m.Address = "x", "10.0.0.7:7946"
	require.Equal(t, m, got)
	for i := range meta {
		_, err := decodeMember(&memberlist.Node{Meta: meta[:i]})
		require.Error(t, err)
	}
	_, err = New(settings.Default[Config](), TierEdge, strings.Repeat("n", maxNodeBytes+1), "", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.Error(t, err)
}

// testSenders returns senders over a send function, and the end of them.
func testSenders(t *testing.T, send func(*memberlist.Node, []byte) error) (*senders, *metrics, context.Context) {
	t.Helper()
	m := newMetrics(prometheus.NewRegistry())
	s := &senders{
		self: idOf("a-1"), table: newTable("a-1"), metrics: m, logger: slog.New(slog.DiscardHandler),
		send:  func(p *peer, message []byte) error { return send(&p.node, message) },
		slots: make(chan struct{}, snapshotSlots), peers: make(map[edgeID]*peer),
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		s.running.Wait()
	})
	return s, m, ctx
}

// A member that takes nothing fills its own queue, which is then dropped, and
// holds up nobody else.
func TestStuckMemberIsDroppedAlone(t *testing.T) {
	t.Parallel()
	entered, stuck := make(chan struct{}, 1), make(chan struct{})
	got := make(chan []byte, 4*queueFrames)
	s, m, ctx := testSenders(t, func(to *memberlist.Node, message []byte) error {
		if to.Name == "stuck" {
			entered <- struct{}{}
			<-stuck
			return errors.New("timeout")
		}
		got <- message
		return nil
	})
	s.add(ctx, memberlist.Node{Name: "stuck"})
	s.add(ctx, memberlist.Node{Name: "well"})
	s.add(ctx, memberlist.Node{Name: "well"})
	letGo := sync.OnceFunc(func() { close(stuck) })
	t.Cleanup(letGo)
	frame := appendFrame(nil, frameBatch, []byte{0, 0})
	s.tell(idOf("stuck"), frame)
	<-entered
	for range queueFrames + 1 {
		s.broadcast([][]byte{frame})
		require.NotEmpty(t, <-got)
	}
	require.LessOrEqual(t, s.length(), queueFrames)
	require.Positive(t, testutil.ToFloat64(m.drops.Of(dropQueueFull)))
	s.remove("stuck")
	require.False(t, s.tell(idOf("stuck"), frame))
	require.False(t, s.wantSnapshot(idOf("stuck")))
	letGo()
}

// What waits for a slow member goes in few messages, since each is answered.
func TestSenderPutsTogetherWhatWaits(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan []byte), make(chan struct{})
	s, _, ctx := testSenders(t, func(_ *memberlist.Node, message []byte) error {
		entered <- message
		<-proceed
		return nil
	})
	s.add(ctx, memberlist.Node{Name: "b"})
	frame := digestsFrame([]digest{{Edge: 1}})
	s.tell(idOf("b"), frame)
	<-entered
	for range 100 {
		s.tell(idOf("b"), frame)
	}
	proceed <- struct{}{}
	m, err := decodeMessage(<-entered)
	require.NoError(t, err)
	require.Len(t, m.Digests, 100)
	close(proceed)
}

// Asking again while the snapshot is under way does not bring a second one.
func TestSnapshotIsSentOncePerRequest(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	s, m, ctx := testSenders(t, func(*memberlist.Node, []byte) error {
		entered <- struct{}{}
		<-proceed
		return nil
	})
	s.add(ctx, memberlist.Node{Name: "b"})
	require.True(t, s.wantSnapshot(idOf("b")))
	<-entered
	require.True(t, s.wantSnapshot(idOf("b")))
	close(proceed)
	sent := func() bool { return testutil.ToFloat64(m.snapshots.Of(snapshotSent)) == 1 }
	require.Eventually(t, sent, soon, poll)
	require.True(t, s.wantSnapshot(idOf("b")))
	<-entered
}

// A stream to a peer that is stopped ends: memberlist itself sets no deadline
// when it sends.
func TestSendingToStoppedPeerEnds(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	tr, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), netip.AddrPort{}, log.New(io.Discard, "", 0))
	require.NoError(t, err)
	for _, end := range []func() error{nil, tr.Shutdown} {
		timeout := 100 * time.Millisecond
		if end != nil {
			timeout = time.Hour
		}
		var conn net.Conn
		require.Eventually(t, func() bool {
			conn, err = tr.DialTimeout(listener.Addr().String(), timeout)
			return err == nil
		}, soon, poll)
		ended := make(chan error, 1)
		go func() {
			for {
				if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
					ended <- err
					return
				}
			}
		}()
		if end != nil {
			require.NoError(t, end())
		}
		require.Error(t, <-ended)
		_ = conn.Close()
	}
	_, err = tr.DialTimeout(listener.Addr().String(), time.Hour)
	require.Error(t, err, "dialling after the end")
}

// Reports: weaviate/weaviate#7474, hashicorp/memberlist#282, grafana/dskit#1078.
func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	quiet := log.New(io.Discard, "", 0)
	tests := []struct{ bind, advertise, want string }{
		{"127.0.0.1:0", "", "127.0.0.1:*"},
		{"0.0.0.0:0", "10.9.8.7:0", "10.9.8.7:*"},
		{"127.0.0.1:0", "10.9.8.7:33", "10.9.8.7:33"},
	}
	for _, test := range tests {
		advertise, err := parseAdvertise(test.advertise, 0)
		require.NoError(t, err)
		tr, err := listen(netip.MustParseAddrPort(test.bind), advertise, quiet)
		require.NoError(t, err)
		want := strings.Replace(test.want, "*", strconv.Itoa(tr.NodeAwareTransport.(*memberlist.NetTransport).GetAutoBindPort()), 1)
		require.Equal(t, want, tr.address.String())
		require.NoError(t, tr.Shutdown())
	}
	ip, err := reachableAddr(netip.MustParseAddr("0.0.0.0"))
	require.NoError(t, err)
	require.False(t, ip.IsUnspecified())
	require.True(t, ip.Is4())
	private, public, six, local := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("127.0.0.1")
	require.Greater(t, rank(private, false), rank(six, false))
	require.Greater(t, rank(six, false), rank(public, false))
	require.Greater(t, rank(public, true), rank(local, true))
	require.Zero(t, rank(six, true))
	require.Zero(t, rank(netip.MustParseAddr("169.254.1.1"), true))
}

func TestResolveAll(t *testing.T) {
	t.Parallel()
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "service" {
			return []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fd00::1")}, nil
		}
		return nil, errors.New("no such host")
	}
	addresses, err := resolveAll(context.Background(), lookup, []string{"service:7946", "10.0.0.1:7946", "gone:1", "127.0.0.1:5"})
	require.ErrorContains(t, err, "gone")
	require.Equal(t, []string{"10.0.0.1:7946", "10.0.0.2:7946", "127.0.0.1:5", "[fd00::1]:7946"}, addresses)
	_, err = resolveAll(context.Background(), lookup, []string{"no port"})
	require.Error(t, err)
}

func TestGossipLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	gossip := newGossipLog(newLogWriter(slog.New(handler)))
	gossip.Printf("[DEBUG] memberlist: Stream connection from=1")
	gossip.Printf("[INFO] memberlist: Suspect b has failed, no acks received")
	gossip.Printf("[ERR] memberlist: failed to receive: EOF")
	gossip.Printf("without a level")
	require.Equal(t, `level=INFO msg=gossip line="Suspect b has failed, no acks received"
level=WARN msg=gossip line="failed to receive: EOF"
level=WARN msg=gossip line="without a level"
`, out.String())
	for range 1000 {
		gossip.Printf("[ERR] memberlist: a stranger knocks")
	}
	require.Less(t, strings.Count(out.String(), "\n"), 500)
}

// Two nodes live in one process with a registry each; every series is there
// from the start.
func TestMetrics(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[Config]()
	cfg.GossipAddr = "127.0.0.1:0"
	reg := prometheus.NewPedanticRegistry()
	d, err := New(cfg, TierEdge, "a", "build", slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	d.Claim(claimOf("o", uuid(1), 1))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_directory_claims Claims known, of all edges; their canaries are not counted.
# TYPE gateway_directory_claims gauge
gateway_directory_claims 1
# HELP gateway_directory_convergence_lag_seconds Age of the oldest disagreement with another edge that is known here.
# TYPE gateway_directory_convergence_lag_seconds gauge
gateway_directory_convergence_lag_seconds 0
# HELP gateway_directory_dropped_messages_total Directory messages thrown away, by reason.
# TYPE gateway_directory_dropped_messages_total counter
gateway_directory_dropped_messages_total{reason="claims"} 0
gateway_directory_dropped_messages_total{reason="early"} 0
gateway_directory_dropped_messages_total{reason="inbox_full"} 0
gateway_directory_dropped_messages_total{reason="malformed"} 0
gateway_directory_dropped_messages_total{reason="members"} 0
gateway_directory_dropped_messages_total{reason="queue_full"} 0
gateway_directory_dropped_messages_total{reason="send_failed"} 0
gateway_directory_dropped_messages_total{reason="stream_bytes"} 0
gateway_directory_dropped_messages_total{reason="streams"} 0
gateway_directory_dropped_messages_total{reason="unknown_edge"} 0
gateway_directory_dropped_messages_total{reason="unknown_kind"} 0
# HELP gateway_directory_health_score How far this node itself fails to keep the gossip's pace; 0 is healthy.
# TYPE gateway_directory_health_score gauge
gateway_directory_health_score 0
# HELP gateway_directory_members Live members known, this node included.
# TYPE gateway_directory_members gauge
gateway_directory_members{tier="edge"} 1
gateway_directory_members{tier="router"} 0
# HELP gateway_directory_queue_length Directory messages waiting.
# TYPE gateway_directory_queue_length gauge
gateway_directory_queue_length{queue="inbox"} 0
gateway_directory_queue_length{queue="senders"} 0
# HELP gateway_directory_sent_bytes_total Bytes of changes and snapshots sent to members, before encryption.
# TYPE gateway_directory_sent_bytes_total counter
gateway_directory_sent_bytes_total 0
# HELP gateway_directory_snapshots_total Snapshots of an edge's claims, by what happened.
# TYPE gateway_directory_snapshots_total counter
gateway_directory_snapshots_total{event="abandoned"} 0
gateway_directory_snapshots_total{event="differs"} 0
gateway_directory_snapshots_total{event="failed"} 0
gateway_directory_snapshots_total{event="received"} 0
gateway_directory_snapshots_total{event="requested"} 0
gateway_directory_snapshots_total{event="sent"} 0
# HELP gateway_directory_state_bytes Size of the digests last exchanged in a push/pull.
# TYPE gateway_directory_state_bytes gauge
gateway_directory_state_bytes 0
`)))
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
}
