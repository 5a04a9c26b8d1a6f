package ring

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's own transport with four of its traps closed: a
// stream being sent has a deadline from the dial on (memberlist sets none when
// it sends a user message, so a peer that is stopped would block it for ever),
// all that it waits for ends with Shutdown, the streams that others open are
// bounded, and what comes is looked at (see inspector).
type transport struct {
	memberlist.NodeAwareTransport
	dial      dialFunc
	address   netip.AddrPort // advertised
	closing   context.Context
	close     context.CancelFunc
	opened    chan net.Conn // by others
	packets   chan *memberlist.Packet
	receiving sync.WaitGroup
	shut      context.Context // closing, and nothing comes in any more
	endShut   context.CancelFunc
}

// dialFunc opens a stream, within a time and until ctx ends.
type dialFunc func(ctx context.Context, address string, timeout time.Duration) (net.Conn, error)

func dialTCP(ctx context.Context, address string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	return dialer.DialContext(ctx, "tcp", address)
}

// listen binds the address and settles what to advertise.
func listen(bind, advertise netip.AddrPort, logger *log.Logger) (*transport, error) {
	if !advertise.IsValid() {
		ip, err := reachableAddr(bind.Addr())
		if err != nil {
			return nil, err
		}
		advertise = netip.AddrPortFrom(ip, 0)
	}
	bound, err := bindTransport(bind, logger)
	if err != nil {
		return nil, fmt.Errorf("bind gossip address %s: %w", bind, err)
	}
	if advertise.Port() == 0 {
		advertise = netip.AddrPortFrom(advertise.Addr(), uint16(bound.GetAutoBindPort()))
	}
	return newTransport(bound, dialTCP, advertise), nil
}

func newTransport(bound memberlist.NodeAwareTransport, dial dialFunc, address netip.AddrPort) *transport {
	t := &transport{NodeAwareTransport: bound, dial: dial, address: address, opened: make(chan net.Conn), packets: make(chan *memberlist.Packet)}
	t.closing, t.close = context.WithCancel(context.Background())
	t.shut, t.endShut = context.WithCancel(context.Background())
	return t
}

// receive takes what others open and send, within the bounds, until Shutdown.
func (t *transport) receive(r *receiver) {
	t.receiving.Go(func() { t.receivePackets(r) })
	t.receiving.Go(func() {
		for {
			select {
			case conn := <-t.NodeAwareTransport.StreamCh():
				if s, ok := r.bounds.enter(conn); ok {
					t.receiving.Go(func() { t.pass(r, s) })
				}
			case <-t.shut.Done():
				return
			}
		}
	})
}

// receivePackets gives memberlist the packets of members, in their order.
func (t *transport) receivePackets(r *receiver) {
	for {
		select {
		case p := <-t.NodeAwareTransport.PacketCh():
			if err := r.inspector.packet(p.Buf); err != nil {
				r.bounds.dropped(dropMalformed)
				r.logger.Debug("a gossip packet is refused", "address", p.From, "error", err)
				continue
			}
			select {
			case t.packets <- p:
			case <-t.closing.Done():
			}
		case <-t.shut.Done():
			return
		}
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// pass serves a stream that stays open, and gives memberlist any other.
func (t *transport) pass(r *receiver, s *stream) {
	release := context.AfterFunc(t.closing, func() { _ = s.Close() })
	defer release()
	kind, err := s.begin()
	switch {
	case err != nil:
		_ = s.Close()
	case kind == standingKind:
		r.serve(s)
	default:
		select {
		case t.opened <- r.inspector.inspect(s):
		case <-t.closing.Done():
			_ = s.Close()
		}
	}
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.opened }

// bindTransport tries port 0 several times: the port must be free for TCP and
// for UDP, and the kernel picks it for TCP alone.
func bindTransport(bind netip.AddrPort, logger *log.Logger) (*memberlist.NetTransport, error) {
	attempts := 1
	if bind.Port() == 0 {
		attempts = 10
	}
	for {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{bind.Addr().String()}, BindPort: int(bind.Port()), Logger: logger,
		})
		attempts--
		if err == nil || attempts == 0 {
			return t, err
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.address.Addr().Unmap().AsSlice(), int(t.address.Port()), nil
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := t.dial(t.closing, a.Addr, timeout)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := &dialedConn{Conn: conn}
	c.release = context.AfterFunc(t.closing, func() { _ = conn.Close() })
	return c, nil
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.close()
	// Its listener may be about to hand over a stream, and waits for that.
	err := t.NodeAwareTransport.Shutdown()
	t.endShut()
	t.receiving.Wait()
	return err
}

// dialedConn is closed by the transport's shutdown at the latest.
type dialedConn struct {
	net.Conn
	release func() bool
}

func (c *dialedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// reachableAddr picks the address that others reach a node by which is bound to
// ip: ip itself, or of "all interfaces" a private address before a public one,
// IPv4 before IPv6, and loopback where there is nothing else.
func reachableAddr(ip netip.Addr) (netip.Addr, error) {
	if !ip.IsUnspecified() {
		return ip, nil
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("detect the gossip address: %w", err)
	}
	var best netip.Addr
	bestRank := 0
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if r := rank(prefix.Addr(), ip.Is4()); r > bestRank {
			best, bestRank = prefix.Addr(), r
		}
	}
	if bestRank == 0 {
		return netip.Addr{}, errors.New("detect the gossip address: no interface has one; set GOSSIP_ADVERTISE_ADDR")
	}
	return best, nil
}

func rank(ip netip.Addr, only4 bool) int {
	r := 0
	switch {
	case only4 && !ip.Is4(), ip.IsLinkLocalUnicast(), ip.IsMulticast():
		return 0
	case ip.IsLoopback():
		r = 1
	case ip.IsPrivate():
		r = 5
	default:
		r = 3
	}
	if ip.Is4() {
		r++
	}
	return r
}
