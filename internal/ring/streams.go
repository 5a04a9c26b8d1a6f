package ring

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/share"
)

// memberlist gives each stream that comes in a goroutine, and reads up to 20 MiB
// of it into memory before it tries whether the sender has the key. These bounds
// are in front of it, and of what comes on the streams that it opens itself. A member
// that is refused for them is told by nobody, and sends what counts again: the digests
// see to that.
const (
	// maxStreams bounds the streams that are open at a time, but for those that
	// stay open. A member sends one message after the other.
	maxStreams = 128
	// maxStanding bounds those that stay open: one for each member.
	maxStanding = 1024
	// streamBytes bounds one stream, far above the largest message of a member
	// and what a push/pull says of thousands.
	streamBytes = 4 << 20
	// openBytes bounds what is held of all open streams together: what has been read,
	// and the copies that memberlist makes of it.
	openBytes = 64 << 20
)

// streams are those that others have opened. Each address has its share, so
// that nobody keeps the members out by opening many or sending much.
type streams struct {
	places, standing, bytes *share.Pool[netip.Addr]
	dropped                 func(dropReason)
}

func newStreams(dropped func(dropReason)) *streams {
	return &streams{
		places: share.New[netip.Addr](maxStreams), standing: share.New[netip.Addr](maxStanding),
		bytes: share.New[netip.Addr](openBytes), dropped: dropped,
	}
}

// enter takes a stream in, or closes it.
func (s *streams) enter(conn net.Conn) (*stream, bool) {
	from := addressOf(conn)
	if !s.places.Take(from, 1) {
		s.dropped(dropStreams)
		_ = conn.Close()
		return nil, false
	}
	return &stream{Conn: conn, streams: s, from: from, places: s.places}, true
}

// addressOf is what counts as one sender.
func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return access.Network(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}

// stream is read as far as the bounds allow. Its methods may be called at any
// time.
type stream struct {
	net.Conn
	streams *streams
	from    netip.Addr
	ahead   []byte // read by begin, and by nobody since

	mu     sync.Mutex
	places *share.Pool[netip.Addr] // of which it has one; nil: of none; guarded by mu
	read   int64                   // guarded by mu
	held   int64                   // of bytes; guarded by mu
	closed bool                    // guarded by mu
}

// dialed is a stream that this node has opened.
func (s *streams) dialed(conn net.Conn) *stream {
	return &stream{Conn: conn, streams: s, from: addressOf(conn)}
}

var errStreamTooLarge = errors.New("the stream is larger than a member's, or the open ones are together")

func (s *stream) tooLarge() error {
	s.streams.dropped(dropStreamBytes)
	return errStreamTooLarge
}

// begin reads the first byte, which says what the stream is for.
func (s *stream) begin() (kind byte, err error) {
	if err := s.SetReadDeadline(time.Now().Add(sendTimeout)); err != nil {
		return 0, err
	}
	s.ahead = make([]byte, 1)
	_, err = io.ReadFull(s.Conn, s.ahead)
	return s.ahead[0], err
}

// stay gives back the place among those that are for a moment, and takes one
// among those that stay open.
func (s *stream) stay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.streams.standing.Take(s.from, 1) {
		s.streams.dropped(dropStreams)
		return false
	}
	s.places.Give(s.from, 1)
	s.places = s.streams.standing
	return true
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (n int, err error) {
	if len(s.ahead) > 0 {
		n = copy(p, s.ahead)
		s.ahead = s.ahead[n:]
	} else {
		n, err = s.Conn.Read(p)
	}
	if n > 0 && !s.take(int64(n)) {
		return 0, s.tooLarge()
	}
	return n, err
}

// take takes room for what has been read.
func (s *stream) take(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read+n > streamBytes || !s.holdLocked(n) {
		return false
	}
	s.read += n
	return true
}

// hold takes room for more than was read.
func (s *stream) hold(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdLocked(n)
}

// holdLocked: mu is held.
func (s *stream) holdLocked(n int64) bool {
	if s.closed || !s.streams.bytes.Take(s.from, n) {
		return false
	}
	s.held += n
	return true
}

// Close implements net.Conn, and gives back what the stream has taken.
func (s *stream) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.streams.bytes.Give(s.from, s.held)
		if s.places != nil {
			s.places.Give(s.from, 1)
		}
	}
	s.mu.Unlock()
	return s.Conn.Close()
}
