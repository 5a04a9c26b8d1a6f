package edge

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// eventFrame is an event on its way to a socket; its text is made when it is
// written.
type eventFrame protocol.Event

// AppendText appends the whole frame.
func (f *eventFrame) AppendText(b []byte) ([]byte, error) {
	return protocol.AppendEvent(b, time.Now(), (*protocol.Event)(f)), nil
}

// frameOverhead is about what an event message has beside the payload.
const frameOverhead = 400

func newFrame(s session.Send) socket.Frame {
	e := s.Event
	return socket.Frame{
		Text: &eventFrame{
			EventID: e.ID, EventType: e.Type, Data: e.Payload, RequiresAck: e.RequiresAck,
			Position: s.Position.String(), Redelivered: s.Redelivered,
			ChannelID: e.ChannelID, WorkspaceID: e.WorkspaceID, Priority: e.Priority, CreatedAt: e.Timestamp,
		},
		Size: len(e.Payload) + frameOverhead, Priority: e.Priority, Redelivered: s.Redelivered, Ping: s.Ping,
		Run: s.Run, Sequence: s.Position.Sequence, Stored: s.Stored, Trace: s.Trace,
	}
}
