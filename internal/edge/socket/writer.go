package socket

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/coder/websocket"
)

// wakeLocked starts the writer if none runs. mu is held.
func (s *Socket) wakeLocked() {
	if s.writing {
		return
	}
	s.writing = true
	s.writers.Add(1)
	s.cfg.Go(func() {
		defer s.writers.Done()
		if err := s.write(); err != nil {
			s.failed(err)
		}
	})
}

// write writes until nothing waits.
func (s *Socket) write() (err error) {
	defer s.rescued(&err)
	for {
		replies, events, ok := s.take()
		if !ok {
			return nil
		}
		written, err := s.writeBatch(replies, events)
		if written > 0 {
			s.handler.Written(events[:written])
		}
		if err != nil {
			return err
		}
	}
}

// take returns what waits; where nothing does, the writer is to end.
func (s *Socket) take() (replies [][]byte, events []Frame, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.empty() {
		s.stopWritingLocked()
		return nil, nil, false
	}
	replies, events = s.queue.take()
	s.roomLocked()
	return replies, events, true
}

// writeBatch gives all frames to the kernel at once, and returns how many events that
// has taken whole: the peer may have got those, also where the connection has failed
// over the rest. Between Cork and Uncork the library only copies, so no context is
// needed to bound it.
func (s *Socket) writeBatch(replies [][]byte, events []Frame) (written int, err error) {
	s.raw.Cork()
	for i := 0; i < len(replies) && err == nil; i++ {
		err = s.conn.Write(context.Background(), websocket.MessageText, replies[i])
	}
	if len(events) > 0 && err == nil {
		err = s.writeEvents(events)
	}
	if flushErr := s.raw.Uncork(); err == nil {
		err = flushErr
	}
	_, taken := s.raw.Given()
	for written < len(events) && events[written].end > 0 && events[written].end <= taken {
		written++
	}
	return written, err
}

func (s *Socket) writeEvents(events []Frame) error {
	scratch := writeBuffers.Get().(*[]byte)
	defer putWriteBuffer(scratch)
	for i := range events {
		text, err := events[i].Text.AppendText((*scratch)[:0])
		if err != nil {
			return fmt.Errorf("write event frame: %w", err)
		}
		*scratch = text
		if events[i].Ping {
			if err := s.announce(&events[i]); err != nil {
				return err
			}
		}
		if err := s.conn.Write(context.Background(), websocket.MessageText, text); err != nil {
			return err
		}
		events[i].end, _ = s.raw.Given()
	}
	return nil
}

// failed ends the connection; the reader notices and reports it.
func (s *Socket) failed(err error) {
	// Of any other failure the reader knows the cause: the peer's close frame,
	// if there was one.
	if errors.Is(err, os.ErrDeadlineExceeded) && !s.raw.closing.Load() {
		s.begin(Ending{Code: CodeAbnormal, Reason: ReasonStuck, ByPeer: true})
	}
	s.Cut()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = queue{}
	s.stopWritingLocked()
}

func (s *Socket) stopWritingLocked() {
	s.writing = false
	s.roomLocked()
}

func (s *Socket) roomLocked() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// awaitWriter returns when the writer has written what was queued before the
// close began; the close timeout bounds it.
func (s *Socket) awaitWriter() {
	for {
		s.mu.Lock()
		if !s.writing {
			s.mu.Unlock()
			return
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		<-room
	}
}
