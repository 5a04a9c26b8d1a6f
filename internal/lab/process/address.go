package process

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Loopback is where a process listens that has no address of its own.
const Loopback = "127.0.0.1"

// Whoever starts several processes must know every address before the first one
// starts, because each is told the others', and no address may change when a
// process is started again. So ports are taken from below the range that systems
// give to outgoing connections (32768 on Linux, 49152 elsewhere): none of these
// takes one while its process is down.
const (
	firstPort = 20000
	lastPort  = 32000
)

// Reserve returns an address, host:port, on which nobody listens. Nobody else is
// given the same port on loopback while this program runs, in other programs of
// the same user neither. An IP of the program's own has all its ports to itself.
func Reserve(ip string) (string, error) {
	const attempts = 1000
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort)
		address := net.JoinHostPort(ip, strconv.Itoa(port))
		free, err := reservations.take(port)
		if err != nil {
			return "", fmt.Errorf("reserve a port: %w", err)
		}
		if free && (ip != Loopback || isFree(address)) {
			return address, nil
		}
	}
	return "", fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}

// ports are those that this program has taken. Each is a byte of a file, and
// locked there: the system unlocks what belongs to a program that has ended.
type ports struct {
	mu    sync.Mutex
	taken map[int]bool
	file  *os.File // nil before the first; closing it would unlock all
}

var reservations = ports{taken: map[int]bool{}}

// take reports whether nobody has had a port.
func (p *ports) take(port int) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		name := filepath.Join(common, fmt.Sprintf("daemon-gateway-ports-%d", os.Getuid()))
		file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return false, err
		}
		p.file = file
	}
	// A lock keeps other programs away, but not its owner.
	if p.taken[port] {
		return false, nil
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: int64(port), Len: 1}
	err := syscall.FcntlFlock(p.file.Fd(), syscall.F_SETLK, &lock)
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EAGAIN) {
		return false, nil
	}
	p.taken[port] = err == nil
	return err == nil, err
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
