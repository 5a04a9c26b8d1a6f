package socket

import (
	"errors"
	"net"
	"sync"
	"time"
	"unicode/utf8"
)

// closedByPeer is the error of a connection whose peer has closed it.
type closedByPeer struct{ ending Ending }

func (closedByPeer) Error() string { return "closed by the peer" }

type refusal struct {
	code    int
	problem string
}

var messageBuffers = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// readMessage reads a message and hands it over, or a control frame that comes
// before one.
func (s *Socket) readMessage() (*refusal, error) {
	h, err := readHeader(s.scratch[:], s.raw.in.ReadFull)
	switch {
	case err != nil:
		return nil, err
	case h.control():
		return nil, s.control(h)
	case h.op == opContinuation:
		return nil, forbidden("the end of a message without its beginning")
	case h.op == opBinary:
		s.unread = h.length
		return &refusal{CodeUnsupportedData, "binary frames are not accepted"}, nil
	}
	buf := messageBuffers.Get().(*[]byte)
	defer messageBuffers.Put(buf)
	n, refused, err := s.readFrames(h, buf)
	switch {
	case err != nil || refused != nil:
		return refused, err
	case !utf8.Valid((*buf)[:n]):
		return &refusal{CodeInvalidPayload, "text is not valid UTF-8"}, nil
	}
	s.handler.Message((*buf)[:n])
	return nil, nil
}

// readFrames reads the frames of a message, of which h is the first, into *buf,
// growing it, and answers the control frames between them.
func (s *Socket) readFrames(h header, buf *[]byte) (n int, refused *refusal, err error) {
	for {
		if h.length > uint64(s.cfg.MaxMessageBytes-n) {
			s.unread = h.length
			return n, &refusal{CodeTooBig, "message is too big"}, nil
		}
		if n, err = s.readPayload(h, buf, n); err != nil || h.final {
			return n, nil, err
		}
		for {
			if h, err = readHeader(s.scratch[:], s.raw.in.ReadFull); err != nil {
				return n, nil, err
			}
			if !h.control() {
				break
			}
			if err := s.control(h); err != nil {
				return n, nil, err
			}
		}
		if h.op != opContinuation {
			return n, nil, forbidden("a message within another")
		}
	}
}

// readPayload reads the payload of a frame behind the first n bytes of *buf, which
// grows with what comes, not with what is announced.
func (s *Socket) readPayload(h header, buf *[]byte, n int) (int, error) {
	for offset, end := 0, n+int(h.length); n < end; {
		if n == len(*buf) {
			grown := make([]byte, min(2*len(*buf), max(s.cfg.MaxMessageBytes, end)))
			copy(grown, *buf)
			*buf = grown
		}
		part := (*buf)[n:min(end, len(*buf))]
		if err := s.raw.in.ReadFull(part); err != nil {
			return n, err
		}
		unmask(part, h.mask, offset)
		n, offset = n+len(part), offset+len(part)
	}
	return n, nil
}

// control reads a control frame and does what it asks for.
func (s *Socket) control(h header) error {
	payload := make([]byte, h.length)
	if err := s.raw.in.ReadFull(payload); err != nil {
		return err
	}
	unmask(payload, h.mask, 0)
	switch h.op {
	case opPing:
		s.pacePing()
		return s.raw.WriteFrame(opPong, payload)
	case opPong:
		s.answered(string(payload))
		return nil
	}
	ending, err := parseClose(payload)
	if err != nil {
		return err
	}
	_ = s.sayClose(ending.Code, ending.Reason) // the peer may be gone
	return closedByPeer{ending}
}

// pacePing is called by the reader for each ping, and waits where there are too
// many.
func (s *Socket) pacePing() {
	wait := s.pings.take(1, time.Now(), pingRate)
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ended:
	}
}

// discard reads over what the peer of a socket that closes still sends, until its
// close frame comes. The close timeout bounds it.
func (s *Socket) discard() error {
	for {
		if err := s.skip(); err != nil {
			return err
		}
		h, err := readHeader(s.scratch[:], s.raw.in.ReadFull)
		switch {
		case err != nil:
			return err
		case h.op == opClose:
			return net.ErrClosed
		}
		s.unread = h.length
	}
}

// skip reads over the rest of a frame.
func (s *Socket) skip() error {
	buf := messageBuffers.Get().(*[]byte)
	defer messageBuffers.Put(buf)
	for s.unread > 0 {
		part := (*buf)[:min(s.unread, uint64(len(*buf)))]
		if err := s.raw.in.ReadFull(part); err != nil {
			return err
		}
		s.unread -= uint64(len(part))
	}
	return nil
}

// sayClose sends a close frame, if none has been sent.
func (s *Socket) sayClose(code int, reason string) error {
	s.mu.Lock()
	said := s.saidClose
	s.saidClose = true
	s.mu.Unlock()
	if said {
		return nil
	}
	return s.raw.WriteFrame(opClose, closePayload(code, reason))
}

// endingOf says how a connection has ended that could not be read any more.
func endingOf(err error) Ending {
	var closed closedByPeer
	if errors.As(err, &closed) {
		return closed.ending
	}
	return Ending{Code: CodeAbnormal, ByPeer: true}
}
