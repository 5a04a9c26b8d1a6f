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

// watched counts what becomes of a daemon.
func watched(p traffic.Profile) (traffic.Profile, *life) {
	l := &life{}
	p.OnState = func(s client.StateChange) {
		switch {
		case s.State == client.StateConnecting:
			l.heartbeats.Store(0)
		case s.State == client.StateDisconnected && s.Close == protocol.CloseAbnormal:
			l.cut.Add(1)
		}
	}
	p.OnFrame = func(f client.Frame) {
		if !f.Sent && f.Type == protocol.TypeHeartbeatAck {
			l.heartbeats.Add(1)
		}
	}
	return p, l
}
