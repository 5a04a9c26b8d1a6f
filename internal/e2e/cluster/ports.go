package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const loopback = "127.0.0.1"

// Every address must be known before the first process starts, because each
// names the others', and stay the same over restarts. So ports are taken from
// below the range that systems give to outgoing connections (32768 on Linux,
// 49152 elsewhere): no connection of the test takes one while its process is down.
const (
	firstPort = 20000
	lastPort  = 32000
)

var reserved = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// reserve returns the address of a port on which nobody listens, never the
// same twice.
func reserve() (string, error) {
	const attempts = 1000
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort)
		address := net.JoinHostPort(loopback, strconv.Itoa(port))
		if take(port) && isFree(address) {
			return address, nil
		}
	}
	return "", fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}

func take(port int) bool {
	reserved.Lock()
	defer reserved.Unlock()
	if reserved.ports[port] {
		return false
	}
	reserved.ports[port] = true
	return true
}

// isFree looks at TCP and UDP, since gossip needs both.
func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	_ = l.Close()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
