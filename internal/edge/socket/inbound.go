package socket

import (
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// readAhead is how much is read from a connection at once.
	readAhead = 4 << 10
	// libraryBuffer is the smallest that package bufio has. The library reads the
	// headers of frames through one that it keeps.
	libraryBuffer = 16
)

var readBuffers = sync.Pool{New: func() any { b := make([]byte, readAhead); return &b }}

// inbound is what comes in on a connection. A buffer is held only while something
// has been read and not returned, so an idle connection keeps none. Its methods
// may be called at any time; one at a time reads.
type inbound struct {
	// Set once.
	conn net.Conn
	// raw is the descriptor, to learn that there is something to read before a
	// buffer is taken; nil where there is none, as with TLS.
	raw     syscall.RawConn
	attempt func(fd uintptr) (done bool)
	rate    rate // of what the peer sends; zero: no limit

	mu     sync.Mutex // held while nothing comes, too
	buffer *[]byte    // pooled; nil: none is held
	ahead  []byte     // read and not returned
	err    error
	read   pace
}

// newInbound returns what comes in on conn after what was read of it before.
func newInbound(conn net.Conn, before []byte) *inbound {
	in := &inbound{conn: conn, ahead: before, raw: descriptorOf(conn)}
	in.attempt = in.attemptLocked
	return in
}

// Await returns when there is something to read, or nothing any more. It needs
// little stack, which is what a goroutine keeps that waits.
func (in *inbound) Await() {
	if in.raw == nil {
		return // Read waits
	}
	in.mu.Lock()
	if len(in.ahead) == 0 {
		in.fillLocked()
	}
	in.mu.Unlock()
}

// Read waits where the peer sends more than the rate allows.
func (in *inbound) Read(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.raw != nil && len(p) <= libraryBuffer {
		p = p[:min(len(p), 1)] // the library's buffer keeps nothing that Await does not see
	}
	if len(in.ahead) == 0 {
		if in.raw == nil || len(p) >= readAhead {
			n, err := in.conn.Read(p[:min(len(p), maxRead)])
			in.paceLocked(n)
			return n, err
		}
		if in.fillLocked(); in.err != nil {
			return 0, in.err
		}
	}
	n := copy(p, in.ahead)
	if in.ahead = in.ahead[n:]; len(in.ahead) == 0 {
		in.ahead = nil
		if in.buffer != nil {
			readBuffers.Put(in.buffer)
			in.buffer = nil
		}
	}
	return n, nil
}

// fillLocked reads ahead, or sets err. mu is held.
func (in *inbound) fillLocked() {
	if in.err != nil {
		return
	}
	if err := in.raw.Read(in.attempt); err != nil && in.err == nil {
		in.err = err
	}
	in.paceLocked(len(in.ahead))
}

// attemptLocked reads what is there; false: nothing is. mu is held.
func (in *inbound) attemptLocked(fd uintptr) (done bool) {
	buffer := readBuffers.Get().(*[]byte)
	n, again, err := readDescriptor(fd, *buffer)
	if n <= 0 {
		readBuffers.Put(buffer)
		in.err = err
		return !again
	}
	in.buffer, in.ahead = buffer, (*buffer)[:n]
	return true
}

func (in *inbound) paceLocked(n int) {
	if in.rate.perSecond == 0 || n <= 0 {
		return
	}
	if wait := in.read.take(n, time.Now(), in.rate); wait > 0 {
		time.Sleep(wait) // shorter than anybody would interrupt it: see maxRead
	}
}
