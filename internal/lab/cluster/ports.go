package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const loopback = "127.0.0.1"

// Place is where a process runs: on this machine, but it may have an address
// of its own.
type Place struct {
	// IP is the address that it listens on.
	IP string
	// Command is what to put before a command to have it run there, as the same
	// process; none by default.
	Command []string
}

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
// same twice. What has an address of its own has all its ports to itself.
func (p Place) reserve() (string, error) {
	const attempts = 1000
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort)
		address := net.JoinHostPort(p.IP, strconv.Itoa(port))
		if take(port) && (p.IP != loopback || isFree(address)) {
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
