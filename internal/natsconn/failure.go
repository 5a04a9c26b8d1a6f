package natsconn

import (
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/outage"
)

// failed notes a try to connect that came to nothing.
func (c *Conn) failed(address string, err error) {
	if !c.closing.Load() {
		c.outage.Failed(address, reason(err), retryWithin)
	}
}

// Servers are the addresses that are configured, without credentials.
func (c Config) Servers() string {
	var hosts []string
	for _, text := range c.urls() {
		if u, err := url.Parse(text); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ", ")
}

// reason says in words why a connection cannot be made, or was lost.
func reason(err error) string {
	switch {
	case isAuthorization(err):
		return "authorization: it refuses this node's user, password or credentials: " + strings.ToLower(err.Error())
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "TLS: the URL asks for it, and the server does not offer it"
	case errors.Is(err, nats.ErrNoInfoReceived):
		return "what listens there is no NATS server"
	case errors.Is(err, errSilent):
		return errSilent.Error()
	case errors.Is(err, nats.ErrStaleConnection):
		return "pings were not answered"
	}
	return outage.Reason(err)
}

// isAuthorization recognizes a refusal also where the library has made a text of it.
func isAuthorization(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "authorization") || strings.Contains(text, "authentication")
}

// isDial reports whether a connection did not even come about.
func isDial(err error) bool {
	var op *net.OpError
	return errors.Is(err, nats.ErrNoServers) || errors.As(err, &op) && op.Op == "dial"
}
