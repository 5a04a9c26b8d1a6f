package trial

import (
	"fmt"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func (t *trial) startDaemons() error {
	for i := range t.cfg.Daemons {
		d, err := traffic.StartDaemon(t.ledger, t.profile(i))
		if err != nil {
			return err
		}
		t.daemons = append(t.daemons, d)
	}
	return nil
}

func (t *trial) profile(i int) traffic.Profile {
	number, seat, connected := i/perOrchestrator, ledger.Seat(fmt.Sprintf("daemon-%d", i)), false
	return traffic.Profile{
		Seat: seat, Orchestrator: t.orchestrator(number), Daemon: protocol.DaemonID(seat),
		Subscribes: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.Pattern(eventType)}}},
		URLs:       []string{string(t.cfg.Probe.EdgeURL)}, Secret: t.cfg.Probe.DaemonJWTSecret,
		// That of a daemon by default: a trial shows what daemons will see.
		Backoff: &client.Backoff{},
		OnState: func(s client.StateChange) {
			switch s.State {
			case client.StateDisconnected:
				t.logger.Info("disconnected", "daemon", seat, "code", int(s.Close), "reason", s.Reason, "delay", s.Delay.Seconds(), "error", s.Err)
			case client.StateSubscribed:
				t.logger.Info("subscribed", "daemon", seat)
				if connected {
					t.account.reconnected()
				}
				connected = true
			}
		},
		OnFrame: func(f client.Frame) {
			if f.Sent || f.Type != protocol.TypeEvent {
				return
			}
			// What cannot be read the ledger tells of.
			if m, err := protocol.ParseServerMessage(f.Data); err == nil {
				if e, ok := m.Payload.(*protocol.Event); ok {
					t.account.received(seat, e.EventID)
				}
			}
		},
	}
}

func (t *trial) stopDaemons() {
	for _, d := range t.daemons {
		_ = d.Stop() // a daemon that had ended has missed events, and those are told
	}
}
