package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

const (
	eventType      protocol.EventType = "gateway.trial"
	publishTimeout                    = 2 * time.Second
	publishRetry                      = 200 * time.Millisecond
)

// write publishes events of one orchestrator, each after the one before has
// been accepted, until the trial is told to finish.
func (t *trial) write(ctx context.Context, number int) {
	every := time.Second * time.Duration(t.cfg.orchestrators()) / time.Duration(t.cfg.Rate)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if e := t.next(number); number%2 == 0 {
			t.onRedis(e)
		} else {
			t.intoLog(e)
		}
	}
}

func (t *trial) next(number int) event.Event {
	id := uuid.NewString()
	e := event.Event{
		ID: id, Type: eventType, OrchestratorID: t.orchestrator(number), RequiresAck: true,
		Payload: json.RawMessage(fmt.Sprintf(`{"id": %q}`, id)), Timestamp: time.Now().UTC().Format(time.RFC3339Nano),
	}
	t.ledger.Published(e)
	t.account.publishing(e)
	return e
}

// onRedis publishes once, as Neolith does. Once a bridge has heard it, it must
// be delivered.
func (t *trial) onRedis(e event.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	text, err := e.MarshalJSON()
	var heard int64
	if err == nil {
		heard, err = t.redis.Publish(ctx, t.cfg.Probe.RedisChannel, text).Result()
	}
	if err != nil || heard == 0 {
		t.logger.Warn("nobody has heard an event on Redis", "event", e.ID, "error", err)
		t.account.unheard()
		return
	}
	t.account.accepted(e.ID)
}

// intoLog publishes until the log acknowledges, as a backend should.
func (t *trial) intoLog(e event.Event) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
		_, err := t.backend.Publish(ctx, e)
		cancel()
		switch {
		case err == nil:
			t.ledger.Confirmed(e.OrchestratorID, e.ID)
			t.account.accepted(e.ID)
			return
		case !publisher.Retryable(err) && !errors.Is(err, context.DeadlineExceeded):
			t.find("the log refuses an event: %v", err)
			return
		}
		select {
		case <-time.After(publishRetry):
		case <-t.ended:
			return
		}
	}
}
