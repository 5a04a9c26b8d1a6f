package process

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// Redis is a redis-server process. It keeps its address over all starts, and
// nothing else.
type Redis struct {
	*Process
	// Addr is host:port.
	Addr string
}

// NewRedis lays out a Redis server.
func NewRedis(s Server) (*Redis, error) {
	addr, err := s.reserve()
	if err != nil {
		return nil, fmt.Errorf("lay out %s: %w", s.Name, err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	// A configuration file stands before all arguments.
	args := slices.Concat(s.Settings, []string{
		"--bind", host, "--port", port, "--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", s.Dir,
	})
	return &Redis{Process: New(s.config(args...)), Addr: addr}, nil
}

// URL is where clients connect.
func (r *Redis) URL() string { return "redis://" + r.Addr }

// AwaitReady waits until the server answers.
func (r *Redis) AwaitReady(ctx context.Context) error {
	return r.Await(ctx, func() error {
		conn, err := net.DialTimeout("tcp", r.Addr, askTimeout)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
			return err
		}
		if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
			return err
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "+PONG\r\n" {
			return fmt.Errorf("%s answers %q: %w", r.Name(), line, err)
		}
		return nil
	})
}
