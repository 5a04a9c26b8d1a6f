package process

import (
	"cmp"
	"context"
	"net/http"
	"time"
)

// Server says what a server's process is.
type Server struct {
	// Name, Dir, Prefix and Program are those of Config. Dir is for the server's
	// data as well.
	Name, Dir string
	Prefix    []string
	Program   string
	// IP is what it listens on; empty: Loopback.
	IP string
	// Settings are lines of a NATS server's configuration file, or arguments of
	// a Redis server.
	Settings []string
}

func (s Server) reserve() (string, error) { return Reserve(cmp.Or(s.IP, Loopback)) }

func (s Server) config(args ...string) Config {
	return Config{Name: s.Name, Dir: s.Dir, Prefix: s.Prefix, Program: s.Program, Args: args}
}

// askTimeout bounds one question to a server on this machine.
const askTimeout = 5 * time.Second

// Get asks a process over HTTP, on a connection of its own: there is nothing to
// be left behind by one that is killed.
func Get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	return client.Do(req)
}
