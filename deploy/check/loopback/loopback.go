// Package loopback finds addresses for the programs that the checks run.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from below the range that systems give to outgoing connections
// (32768 on Linux, 49152 elsewhere), so that none of these takes one before the
// program listens there, and from below those of internal/lab/process, whose tests
// run at the same time. Each test binary has a block of them to itself, and
// listens on its first port for as long as it runs to keep the others away.
const (
	firstPort = 10000
	lastPort  = 20000
	blockSize = 500
)

var (
	mu    sync.Mutex
	block net.Listener // nil before the first address
	next  int
)

// Free returns an address, host:port, on which nobody listens, and returns none
// twice.
func Free() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	if block == nil {
		if err := takeBlock(); err != nil {
			return "", err
		}
	}
	for next++; next%blockSize != 0; next++ {
		if at := address(next); isFree(at) {
			return at, nil
		}
	}
	return "", fmt.Errorf("no free port up to %d", next)
}

func takeBlock() (err error) {
	const attempts = 1000
	for range attempts {
		next = firstPort + rand.IntN((lastPort-firstPort)/blockSize)*blockSize
		if block, err = net.Listen("tcp", address(next)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no free block of ports between %d and %d: %w", firstPort, lastPort, err)
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// isFree looks at TCP and UDP, since gossip needs both.
func isFree(address string) bool {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	_ = listener.Close()
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return packets.Close() == nil
}
