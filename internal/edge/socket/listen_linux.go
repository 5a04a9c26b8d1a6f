package socket

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// The keepalives of a connection, which are Go's own: a probe after so long
// without a word, so many of them, and then it counts as broken.
const (
	keepaliveAfter  = 15 * time.Second
	keepaliveProbes = 9
)

// Listen returns a listener for connections that become sockets. Linux hands an
// address's options on to what is accepted there, so they are set once, and not
// with six system calls for each connection.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{
		KeepAlive: -1, // none by Go
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) { failed = prepare(int(fd)) })
			return errors.Join(err, failed)
		},
	}
	return config.Listen(ctx, "tcp", address)
}

func prepare(fd int) error {
	seconds := int(keepaliveAfter / time.Second)
	for _, option := range []struct{ level, name, value int }{
		{syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer},
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, seconds},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, seconds},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepaliveProbes},
	} {
		if err := syscall.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return err
		}
	}
	return nil
}
