package ring

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// memory is a network in memory, so that a hundred members fit into one process.
// It counts what goes through it. Whoever has been shut down can be reached by
// nobody any more, and is told so at once.
type memory struct {
	dials, packets         atomic.Int64
	packetBytes, sentBytes atomic.Int64 // sentBytes are those of streams, both ways

	mu      sync.Mutex
	members map[string]*memoryTransport // by address; guarded by mu
}

func newMemory() *memory { return &memory{members: make(map[string]*memoryTransport)} }

// listen is options.listen: the address is the network's to choose.
func (m *memory) listen(_, _ netip.AddrPort, _ *log.Logger) (*transport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.members) + 1
	t := &memoryTransport{
		network: m, address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 7946),
		packetCh: make(chan *memberlist.Packet, 1024), streamCh: make(chan net.Conn), ended: make(chan struct{}),
	}
	m.members[t.address.String()] = t
	return newTransport(t, t.dial, t.address), nil
}

func (m *memory) reset() {
	for _, counter := range []*atomic.Int64{&m.dials, &m.packets, &m.packetBytes, &m.sentBytes} {
		counter.Store(0)
	}
}

func (m *memory) find(address string) *memoryTransport {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[address]
}

// memoryTransport is one member's end.
type memoryTransport struct {
	network  *memory
	address  netip.AddrPort
	packetCh chan *memberlist.Packet
	streamCh chan net.Conn
	ended    chan struct{}
	end      sync.Once
}

var errNobody = errors.New("nobody is there")

func (t *memoryTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.address.Addr().AsSlice(), int(t.address.Port()), nil
}

func (t *memoryTransport) WriteTo(b []byte, address string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: address})
}

// WriteToAddress drops what cannot be taken at once, as UDP does.
func (t *memoryTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	t.network.packets.Add(1)
	t.network.packetBytes.Add(int64(len(b)))
	now := time.Now()
	if to := t.network.find(a.Addr); to != nil {
		packet := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.TCPAddrFromAddrPort(t.address), Timestamp: now}
		select {
		case <-to.ended:
		case to.packetCh <- packet:
		default:
		}
	}
	return now, nil
}

func (t *memoryTransport) PacketCh() <-chan *memberlist.Packet { return t.packetCh }
func (t *memoryTransport) StreamCh() <-chan net.Conn           { return t.streamCh }

func (t *memoryTransport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.dial(context.Background(), address, timeout)
}

func (t *memoryTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.dial(context.Background(), a.Addr, timeout)
}

func (t *memoryTransport) dial(ctx context.Context, address string, _ time.Duration) (net.Conn, error) {
	t.network.dials.Add(1)
	to := t.network.find(address)
	if to == nil {
		return nil, fmt.Errorf("dial %s: %w", address, errNobody)
	}
	ours, theirs := net.Pipe()
	select {
	case to.streamCh <- &memoryConn{Conn: theirs, network: t.network, from: t.address}:
		return &memoryConn{Conn: ours, network: t.network, from: to.address}, nil
	case <-to.ended:
	case <-ctx.Done():
	}
	return nil, errors.Join(fmt.Errorf("dial %s: %w", address, errNobody), ours.Close(), theirs.Close())
}

func (t *memoryTransport) Shutdown() error {
	t.end.Do(func() { close(t.ended) })
	return nil
}

// memoryConn counts what is written, and has an address.
type memoryConn struct {
	net.Conn
	network *memory
	from    netip.AddrPort
}

func (c *memoryConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.network.sentBytes.Add(int64(n))
	return n, err
}

func (c *memoryConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }
