package eventlog

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// explain says of an error that keeps the log from being opened what was asked of
// whom, what the answer means, and what to do: the library's words help nobody who
// does not know it.
func explain(err error, nc *nats.Conn) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return fmt.Errorf("nobody answers for JetStream behind NATS server %s: it is switched off there (start nats-server with -js, "+
			"or with a jetstream block in its configuration), or its cluster has no leader yet: %w", nc.ConnectedUrlRedacted(), err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream is not switched on for this user's account at NATS server %s: give the account JetStream limits: %w",
			nc.ConnectedUrlRedacted(), err)
	}
	return err
}
