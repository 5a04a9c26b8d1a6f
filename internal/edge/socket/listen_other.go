//go:build !linux

package socket

import (
	"context"
	"net"
)

// Listen returns a listener for connections that become sockets.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return bounding{l}, nil
}

// bounding sets what the system hands on elsewhere.
type bounding struct{ net.Listener }

// Accept implements net.Listener.
func (l bounding) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // it fails on a connection that is gone
	}
	return conn, err
}
