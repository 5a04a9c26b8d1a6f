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
// run at the same time.
const (
	firstPort = 10000
	lastPort  = 20000
)

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Free returns an address, host:port, on which nobody listens, and returns none
// twice.
func Free() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	const attempts = 1000
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if given[port] {
			continue
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		given[port] = true
		return address, listener.Close()
	}
	return "", fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}
