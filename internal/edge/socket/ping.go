package socket

import "encoding/binary"

// The ping before a frame: its header, and Run and Sequence, which the pong repeats.
const (
	pingPayload = 4 + 8
	pingHeader  = "\x89\x0c" // a whole ping of as many bytes
)

// announce writes the ping of a frame that is about to be written. The library has
// none that does not wait for the answer. Between two of its messages, and under a
// cork, this one is whole: the control frames that the library may write at the same
// time come in one piece.
func (s *Socket) announce(f *Frame) error {
	ping := binary.BigEndian.AppendUint32([]byte(pingHeader), f.Run)
	ping = binary.BigEndian.AppendUint64(ping, f.Sequence)
	_, err := s.raw.Write(ping)
	return err
}

// answered is called by the reader for each pong. Those of Ping are shorter.
func (s *Socket) answered(payload []byte) {
	if len(payload) == pingPayload {
		s.handler.Answered(binary.BigEndian.Uint32(payload), binary.BigEndian.Uint64(payload[4:]))
	}
}
