package natsconn

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Dial connects at once or not at all, for a program that somebody waits for.
// Whoever gets the connection closes it.
func Dial(cfg Config, name string, timeout time.Duration) (*nats.Conn, error) {
	var urls, shown []string
	for _, text := range cfg.NATSURL {
		urls = append(urls, string(text))
		if u, err := url.Parse(string(text)); err == nil {
			shown = append(shown, u.Host)
		}
	}
	options := append(cfg.reaching(), nats.Name(name), nats.CustomInboxPrefix(cfg.NATSInboxPrefix), nats.Timeout(timeout))
	nc, err := nats.Connect(strings.Join(urls, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", strings.Join(shown, ", "), err)
	}
	return nc, nil
}
