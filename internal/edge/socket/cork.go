package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxPendingControl bounds the control frames that wait behind a flush: a peer
// that sends pings and takes no pongs stops being read here.
const maxPendingControl = 4 << 10

// maxPooledBuffer is the largest write buffer that is kept for reuse.
const maxPooledBuffer = 128 << 10

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func putWriteBuffer(buf *[]byte) {
	if cap(*buf) <= maxPooledBuffer {
		*buf = (*buf)[:0]
		writeBuffers.Put(buf)
	}
}

type corkState uint8

const (
	idle      corkState = iota // writes go straight to the connection
	gathering                  // between Cork and Uncork: writes are collected
	flushing                   // one goroutine writes; further writes wait behind it
)

// corkedConn is a net.Conn that can collect writes and pass them on with one
// system call. Write may be called at any time, since the library writes
// control frames by itself; only one goroutine may use Cork and Uncork.
type corkedConn struct {
	net.Conn
	timeout time.Duration
	chunk   int // most bytes handed over at once; 0: no limit

	closing atomic.Bool // Close has begun

	in *inbound // what is read

	mu      sync.Mutex
	changed sync.Cond // state, pending or err changed
	state   corkState
	pending *[]byte
	err     error
	// given is how many bytes were ever written to this, and taken how many of those the
	// kernel has taken.
	given, taken uint64
}

// newCorkedConn returns conn, of which before was read already.
func newCorkedConn(conn net.Conn, before []byte, timeout time.Duration) *corkedConn {
	c := &corkedConn{Conn: conn, in: newInbound(conn, before), timeout: timeout}
	c.changed.L = &c.mu
	if _, ok := conn.(*tls.Conn); ok {
		// A TLS connection is unusable after a write timed out, so progress
		// within a large write cannot be seen: a record at a time instead.
		c.chunk = 16 << 10
	}
	return c
}

// Read is inbound's.
func (c *corkedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Write hands p on, or collects it between Cork and Uncork.
func (c *corkedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && c.state == flushing && c.pendingLocked()+len(p) > maxPendingControl {
		c.changed.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	c.appendLocked(p)
	if c.state == idle {
		c.flushLocked()
		if c.err != nil {
			return 0, c.err
		}
	}
	return len(p), nil
}

// Cork makes the following writes wait for Uncork. It waits for a control
// frame that is being written.
func (c *corkedConn) Cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && c.state != idle {
		c.changed.Wait()
	}
	c.state = gathering
}

// Given returns how many bytes were ever written to this, and how many of those the
// kernel has taken.
func (c *corkedConn) Given() (given, taken uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.given, c.taken
}

// Uncork writes what was collected, and what came meanwhile.
func (c *corkedConn) Uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushLocked()
	return c.err
}

// lastWords is how long Close gives to what has been written and not passed on:
// the library closes right after it has answered the peer's close frame, and
// that answer may wait behind a cork or a flush.
const lastWords = 100 * time.Millisecond

// Close passes on what waits, ends the connection and every further write.
func (c *corkedConn) Close() error {
	c.mu.Lock()
	c.closing.Store(true)
	switch {
	case c.err != nil:
	case c.state == gathering:
		c.flushLocked()
	case c.state == flushing:
		_ = c.SetWriteDeadline(time.Now().Add(lastWords))
		for c.err == nil && c.state == flushing {
			c.changed.Wait()
		}
	}
	c.mu.Unlock()
	return c.abort()
}

// abort ends the connection and every write that waits, at once.
func (c *corkedConn) abort() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = net.ErrClosed
	}
	c.changed.Broadcast()
	return err
}

func (c *corkedConn) pendingLocked() int {
	if c.pending == nil {
		return 0
	}
	return len(*c.pending)
}

func (c *corkedConn) appendLocked(p []byte) {
	if c.pending == nil {
		c.pending = writeBuffers.Get().(*[]byte)
	}
	*c.pending = append(*c.pending, p...)
	c.given += uint64(len(p))
}

// flushLocked gives mu away while it writes.
func (c *corkedConn) flushLocked() {
	c.state = flushing
	for c.err == nil && c.pending != nil {
		buf := c.pending
		c.pending = nil
		c.changed.Broadcast()
		c.mu.Unlock()
		n, err := c.writeAll(*buf)
		putWriteBuffer(buf)
		c.mu.Lock()
		c.taken += uint64(n)
		if c.err == nil {
			c.err = err
		}
	}
	c.state = idle
	c.changed.Broadcast()
}

// writeAll writes p, and returns how much of it was taken; it fails when the peer takes
// nothing for the timeout.
func (c *corkedConn) writeAll(p []byte) (taken int, err error) {
	for len(p) > 0 {
		part := p
		if c.chunk > 0 && len(part) > c.chunk {
			part = part[:c.chunk]
		}
		timeout := c.timeout
		if c.closing.Load() {
			timeout = lastWords
		}
		if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return taken, err
		}
		n, err := c.Conn.Write(part)
		p, taken = p[n:], taken+n
		progress := n > 0 && c.chunk == 0 && !c.closing.Load() && errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !progress {
			return taken, err
		}
	}
	return taken, nil
}
