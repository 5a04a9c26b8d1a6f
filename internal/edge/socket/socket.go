package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// Handler receives what happens on a socket.
type Handler interface {
	// Message is called by the reader for each text message, one at a time.
	// While it runs nothing further is read. data is valid until it returns.
	Message(data []byte)
	// Refused is called by the reader for a frame that may not be accepted,
	// before the socket closes itself with the code: a last reply may be sent.
	Refused(code int, problem string)
	// Written is called by the writer after these frames went to the kernel, also where
	// the connection has failed over those behind them.
	Written(frames []Frame)
	// Answered is called by the reader when the peer has answered the ping of a frame.
	Answered(run uint32, sequence uint64)
	// Ended is called once, and after everything else.
	Ended(Ending)
}

// Ending says how a socket came to its end.
type Ending struct {
	// Code is the close code that was sent or received; 1006 when the
	// connection broke without one.
	Code   int
	Reason string
	// ByPeer is true where the peer closed, or the connection broke.
	ByPeer bool
}

// The close codes that the socket itself uses.
const (
	CodeNormal          = 1000
	CodeGoingAway       = 1001
	CodeProtocolError   = 1002
	CodeUnsupportedData = 1003
	CodeNoStatus        = 1005
	CodeAbnormal        = 1006
	CodeInvalidPayload  = 1007
	CodeTooBig          = 1009
)

// ReasonStuck is the Reason of a socket whose peer took nothing for the write
// timeout.
const ReasonStuck = "write timeout"

// Socket is one WebSocket connection. All methods may be called at any time
// from any goroutine; Serve once.
type Socket struct {
	// Set before anybody else knows the socket.
	conn *websocket.Conn
	raw  *corkedConn
	cfg  Config

	handler Handler // set by Serve before the reader starts
	pings   pace    // owned by the reader

	ended   chan struct{} // closed when the close has begun
	writers sync.WaitGroup

	mu      sync.Mutex
	queue   queue
	writing bool
	room    chan struct{} // closed when replies have been taken; nil if nobody waits
	closing bool
	ending  Ending
}

func newSocket(cfg Config) *Socket {
	return &Socket{cfg: cfg, ended: make(chan struct{})}
}

// RemoteAddr is the address of the peer of the TCP connection.
func (s *Socket) RemoteAddr() net.Addr { return s.raw.RemoteAddr() }

// Ended is closed as soon as the socket begins to close, whoever began it.
func (s *Socket) Ended() <-chan struct{} { return s.ended }

// Serve begins to read, and returns. The handler is told when the connection has
// ended.
func (s *Socket) Serve(h Handler) {
	s.mu.Lock()
	s.handler = h
	s.mu.Unlock()
	switch {
	case s.raw.in.raw == nil:
		go s.serve() // which waits as well
	case s.raw.in.Holds():
		s.cfg.Go(s.serve)
	default:
		go s.await()
	}
}

// await waits for the peer to say something. A goroutine keeps the stack that it
// has grown to, so this one does nothing else: it ends when there is something to
// be read, and that is done where stacks have grown before.
func (s *Socket) await() {
	s.raw.in.Wait()
	s.cfg.Go(s.resume)
}

func (s *Socket) resume() {
	s.raw.in.Fill()
	s.serve()
}

// serve is the reader while there is something to read. There is one at a time.
func (s *Socket) serve() {
	more, err := s.read()
	if more {
		go s.await()
		return
	}
	s.begin(endingOf(err))
	s.writers.Wait()
	_ = s.raw.Close()
	_ = s.conn.CloseNow()
	s.mu.Lock()
	ending := s.ending
	s.mu.Unlock()
	s.handler.Ended(ending)
}

// Send queues a reply. Replies go out before events that wait.
func (s *Socket) Send(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.queue.addReply(data)
		s.wakeLocked()
	}
}

// SendEvents queues events behind those of the same or a higher priority. The
// caller bounds how many wait.
func (s *Socket) SendEvents(frames ...Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	for _, f := range frames {
		s.queue.addEvent(f)
	}
	s.wakeLocked()
}

// Close sends the replies that wait and a close frame, and ends the connection
// when the peer has answered or the close timeout is over. Events that wait
// are dropped. It does not wait, and does nothing on a socket that is closing.
func (s *Socket) Close(code int, reason string) {
	if !s.begin(Ending{Code: code, Reason: reason}) {
		return
	}
	// The library's Close may wait 5 s twice, and its CloseNow waits for a
	// Close under way: only closing what is below it cuts that short.
	kill := time.AfterFunc(s.cfg.CloseTimeout, s.Cut)
	go func() {
		defer s.writers.Done()
		defer s.rescued(new(error))
		s.awaitWriter()
		_ = s.conn.Close(websocket.StatusCode(code), reason)
		kill.Stop()
	}()
}

// rescued keeps a panic in what is done for the peer from ending the program. It is
// deferred; the reader notices that the connection is cut off, and ends.
func (s *Socket) rescued(err *error) {
	if value := recover(); value != nil {
		s.cfg.Panicked(value)
		s.Cut()
		*err = ErrPanicked
	}
}

// Cut ends the connection at once, without a close frame.
func (s *Socket) Cut() { _ = s.raw.abort() }

// Ping reports whether the peer answers before the context ends. The
// connection stays open either way.
func (s *Socket) Ping(ctx context.Context) error { return s.conn.Ping(ctx) }

// begin marks the socket as closing; it reports false if it was already. Where
// we close ourselves, it registers the closer before Serve may wait for it.
func (s *Socket) begin(e Ending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.closing = true
	s.ending = e
	s.queue.events = nil
	if !e.ByPeer {
		s.writers.Add(1)
	}
	close(s.ended)
	return true
}

// read hands messages to the handler. It returns more where nothing further has
// been read yet, and else why the connection has ended.
func (s *Socket) read() (more bool, err error) {
	defer s.rescued(&err)
	for s.raw.in.Holds() {
		if !s.awaitRoom() {
			return false, s.discard()
		}
		refused, err := s.readMessage()
		switch {
		case isViolation(err):
			// Unless the frame had no mask, the library has sent this code already:
			// whatever the handler replies is dropped.
			s.Close(CodeProtocolError, "")
			s.handler.Refused(CodeProtocolError, "what came is no WebSocket frame")
			return false, s.discard()
		case err != nil:
			return false, err
		}
		if refused != nil {
			s.handler.Refused(refused.code, refused.problem)
			s.Close(refused.code, refused.problem)
			return false, s.discard()
		}
	}
	return true, nil
}

// isViolation reports whether reading has failed over what came, and not over the
// connection.
func isViolation(err error) bool {
	var closed websocket.CloseError
	var network net.Error
	if err == nil || errors.As(err, &closed) || errors.As(err, &network) {
		return false
	}
	return !slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, os.ErrClosed, ErrPanicked},
		func(end error) bool { return errors.Is(err, end) })
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

// discard leaves the reading to the library's Close, which reads over what the
// peer still sends until its close frame comes.
func (s *Socket) discard() error {
	s.writers.Wait()
	return net.ErrClosed
}

type refusal struct {
	code    int
	problem string
}

var messageBuffers = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

func (s *Socket) readMessage() (*refusal, error) {
	kind, r, err := s.conn.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageText {
		return &refusal{CodeUnsupportedData, "binary frames are not accepted"}, nil
	}
	buf := messageBuffers.Get().(*[]byte)
	defer messageBuffers.Put(buf)
	n, err := s.fill(buf, r)
	switch {
	case err != nil:
		return nil, err
	case n > s.cfg.MaxMessageBytes:
		return &refusal{CodeTooBig, "message is too big"}, nil
	case !utf8.Valid((*buf)[:n]):
		return &refusal{CodeInvalidPayload, "text is not valid UTF-8"}, nil
	}
	s.handler.Message((*buf)[:n])
	return nil, nil
}

// fill reads a message of up to one byte over the limit into *buf, growing it.
func (s *Socket) fill(buf *[]byte, r io.Reader) (int, error) {
	n := 0
	for n <= s.cfg.MaxMessageBytes {
		if n == len(*buf) {
			grown := make([]byte, min(2*len(*buf), s.cfg.MaxMessageBytes+1))
			copy(grown, *buf)
			*buf = grown
		}
		m, err := r.Read((*buf)[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// awaitRoom waits while the peer takes no replies. It reports false when the
// socket is closing.
func (s *Socket) awaitRoom() bool {
	for {
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			return false
		}
		if len(s.queue.replies) < s.cfg.MaxReplies && s.queue.replyBytes < s.cfg.MaxReplyBytes {
			s.mu.Unlock()
			return true
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-s.ended:
		}
	}
}

func endingOf(err error) Ending {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return Ending{Code: int(closed.Code), Reason: closed.Reason, ByPeer: true}
	}
	return Ending{Code: CodeAbnormal, ByPeer: true}
}
