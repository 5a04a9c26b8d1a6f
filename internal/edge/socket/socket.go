package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// Handler receives what happens on a socket.
type Handler interface {
	// Message is called by the reader for each text message, one at a time.
	// While it runs nothing further is read. data is valid until it returns.
	Message(data []byte)
	// Refused is called by the reader for a frame that may not be accepted,
	// before the socket closes itself with the code: a last reply may be sent.
	Refused(code int, problem string)
	// Written is called by the writer after these frames went to the kernel.
	Written(frames []Frame)
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
	raw *corkedConn
	cfg Config

	handler Handler // set by Serve before the reader starts

	// Owned by the reader.
	scratch [maxHeader]byte
	pings   pace
	unread  uint64 // of the frame that was begun and is not to be read

	ended   chan struct{} // closed when the close has begun
	writers sync.WaitGroup

	mu        sync.Mutex
	queue     queue
	writing   bool
	room      chan struct{} // closed when replies have been taken; nil if nobody waits
	closing   bool
	ending    Ending
	kill      *time.Timer              // ends the close; nil: it was not begun here
	pinged    int                      // pings sent
	awaited   map[string]chan struct{} // closed when a ping is answered; by what it says
	saidClose bool                     // a close frame has been sent, or is about to be
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
	if errors.As(err, new(closedByPeer)) {
		_ = s.raw.Close() // which passes on the close frame, whatever the writer does
	}
	s.writers.Wait()
	_ = s.raw.Close()
	s.mu.Lock()
	if s.kill != nil {
		s.kill.Stop()
	}
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
	s.cfg.Go(func() {
		defer s.writers.Done()
		defer s.rescued(new(error))
		s.awaitWriter()
		_ = s.sayClose(code, reason) // the reader notices that the peer is gone
	})
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
func (s *Socket) Ping(ctx context.Context) error {
	answered := make(chan struct{})
	s.mu.Lock()
	s.pinged++
	text := strconv.Itoa(s.pinged)
	if s.awaited == nil {
		s.awaited = make(map[string]chan struct{})
	}
	s.awaited[text] = answered
	s.mu.Unlock()
	defer s.answered(text)
	if err := s.raw.WriteFrame(opPing, []byte(text)); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	select {
	case <-answered:
		return nil
	case <-s.ended:
		return fmt.Errorf("ping: %w", net.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("wait for a pong: %w", ctx.Err())
	}
}

// answered says that the peer has answered a ping, or that nobody waits for that.
func (s *Socket) answered(ping string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting, ok := s.awaited[ping]; ok {
		delete(s.awaited, ping)
		close(waiting)
	}
}

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
		s.kill = time.AfterFunc(s.cfg.CloseTimeout, s.Cut)
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
		var forbidden violation
		switch {
		case errors.As(err, &forbidden):
			s.Close(forbidden.code, "")
			s.handler.Refused(forbidden.code, "what came is no WebSocket frame") // no reply is sent
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
