package natsconn

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Dial connects at once or not at all, for a program that somebody waits for.
// Whoever gets the connection closes it.
func Dial(cfg Config, name string, timeout time.Duration) (*nats.Conn, error) {
	options := append(cfg.reaching(), nats.Name(name), nats.CustomInboxPrefix(cfg.NATSInboxPrefix), nats.Timeout(timeout))
	nc, err := nats.Connect(strings.Join(cfg.urls(), ","), options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.Servers(), err)
	}
	return nc, nil
}
