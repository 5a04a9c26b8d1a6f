package e2e_test

import (
	"sync/atomic"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// life is what becomes of a daemon's connections: how many were cut off, and the
// heartbeats of the present one.
type life struct {
	cut, heartbeats atomic.Int64
}

// watch counts what becomes of a daemon.
func watch(s *traffic.Seat) *life {
	l := &life{}
	s.Profile.OnState = func(c client.StateChange) {
		switch {
		case c.State == client.StateConnecting:
			l.heartbeats.Store(0)
		case c.State == client.StateDisconnected && c.Close == protocol.CloseAbnormal:
			l.cut.Add(1)
		}
	}
	s.Profile.OnFrame = func(f client.Frame) {
		if !f.Sent && f.Type == protocol.TypeHeartbeatAck {
			l.heartbeats.Add(1)
		}
	}
	return l
}
