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
func explain(err error, js jetstream.JetStream) error {
	server, domain := js.Conn().ConnectedUrlRedacted(), js.Options().Domain
	nobody := errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled)
	switch {
	case nobody && domain != "":
		return fmt.Errorf("nobody answers for JetStream of the domain %s behind NATS server %s: no server that it knows has this domain "+
			"(NATS_JETSTREAM_DOMAIN; the hub's jetstream block names it), its leaf node connection is down, or its cluster has no leader yet: %w",
			domain, server, err)
	case nobody:
		return fmt.Errorf("nobody answers for JetStream behind NATS server %s: it is switched off there (start nats-server with -js, "+
			"or with a jetstream block in its configuration), it is in a domain (NATS_JETSTREAM_DOMAIN), or its cluster has no leader yet: %w", server, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream is not switched on for this user's account at NATS server %s: give the account JetStream limits: %w", server, err)
	}
	return err
}
