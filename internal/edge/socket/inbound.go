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
	look    func(fd uintptr) (done bool)
	rate    rate // of what the peer sends; zero: no limit

	looked bool // owned by Wait

	mu      sync.Mutex // held while nothing comes to Read, too
	patient bool       // whether an attempt waits for something to come
	buffer  *[]byte    // pooled; nil: none is held
	ahead   []byte     // read and not returned
	err     error
	read    pace
}

// newInbound returns what comes in on conn after what was read of it before.
func newInbound(conn net.Conn, before []byte) *inbound {
	in := &inbound{conn: conn, ahead: before, raw: descriptorOf(conn)}
	in.attempt, in.look = in.attemptLocked, in.lookOnce
	return in
}

// Wait returns when there may be something to read, or nothing any more. It reads
// nothing, and so needs less stack than a goroutine begins with: one that does
// nothing else keeps no more. It is for one caller at a time, where there is a
// descriptor.
func (in *inbound) Wait() {
	in.looked = false
	_ = in.raw.Read(in.look) // what is wrong, the next read says
}

// lookOnce reports whether there is something to read: it is asked again when
// something has come.
func (in *inbound) lookOnce(fd uintptr) (done bool) {
	if in.looked {
		return true
	}
	in.looked = true
	return readable(fd)
}

// Fill reads ahead what is there, without waiting for anything.
func (in *inbound) Fill() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.ahead) == 0 {
		in.fillLocked(false)
	}
}

// Holds reports whether something has been read that was not returned, an error
// included; where only Read can tell, it may.
func (in *inbound) Holds() bool {
	if in.raw == nil {
		return true
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.ahead) > 0 || in.err != nil
}

// Read waits where the peer sends more than the rate allows.
func (in *inbound) Read(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.raw != nil && len(p) <= libraryBuffer {
		p = p[:min(len(p), 1)] // the library's buffer keeps nothing that Holds does not see
	}
	if len(in.ahead) == 0 {
		if in.raw == nil || len(p) >= readAhead {
			n, err := in.conn.Read(p[:min(len(p), maxRead)])
			in.paceLocked(n)
			return n, err
		}
		if in.fillLocked(true); in.err != nil {
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

// fillLocked reads ahead, or sets err; if it is not patient, it may do neither. mu
// is held.
func (in *inbound) fillLocked(patient bool) {
	if in.err != nil {
		return
	}
	in.patient = patient
	if err := in.raw.Read(in.attempt); err != nil && in.err == nil {
		in.err = err
	}
	in.paceLocked(len(in.ahead))
}

// attemptLocked reads what is there; false: nothing is, and it is to be waited
// for. mu is held.
func (in *inbound) attemptLocked(fd uintptr) (done bool) {
	buffer := readBuffers.Get().(*[]byte)
	n, again, err := readDescriptor(fd, *buffer)
	if n <= 0 {
		readBuffers.Put(buffer)
		in.err = err
		return !again || !in.patient
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
