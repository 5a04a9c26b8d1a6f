package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// NATSServer is a nats-server process with JetStream. It keeps its data.
type NATSServer struct {
	*Process
	// Addr is host:port for clients.
	Addr string
	// Data is the directory with all that it keeps.
	Data      string
	adminAddr string
}

// URL is where clients connect.
func (s *NATSServer) URL() string { return "nats://" + s.Addr }

// AwaitReady waits until the server is healthy, JetStream included; as member
// of a cluster that needs a majority.
func (s *NATSServer) AwaitReady(ctx context.Context) error {
	return poll(ctx, s.Process, func() error {
		resp, err := get(ctx, "http://"+s.adminAddr+"/healthz")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: /healthz answers %s", s.Name(), resp.Status)
		}
		return nil
	})
}

// NATSUsage is what a server holds for its clients.
type NATSUsage struct {
	Connections   int `json:"connections"`
	Subscriptions int `json:"subscriptions"`
	Streams       int `json:"streams"`
	Consumers     int `json:"consumers"`
	Messages      int `json:"messages"` // stored, in all streams
}

// Usage asks the server what it holds.
func (s *NATSServer) Usage(ctx context.Context) (u NATSUsage, err error) {
	for _, page := range []string{"/varz", "/jsz"} {
		resp, err := get(ctx, "http://"+s.adminAddr+page)
		if err != nil {
			return u, err
		}
		err = json.NewDecoder(resp.Body).Decode(&u)
		_ = resp.Body.Close()
		if err != nil {
			return u, fmt.Errorf("%s: %s: %w", s.Name(), page, err)
		}
	}
	return u, nil
}

func newNATS(cfg Config) ([]*NATSServer, error) {
	var servers []*NATSServer
	var routes []string
	for i := range cfg.NATS {
		name := fmt.Sprintf("nats-%d", i+1)
		s := &NATSServer{Data: filepath.Join(cfg.Dir, name)}
		place, err := cfg.place(name)
		if err != nil {
			return nil, err
		}
		if s.Addr, err = place.reserve(); err != nil {
			return nil, err
		}
		if s.adminAddr, err = place.reserve(); err != nil {
			return nil, err
		}
		route, err := place.reserve()
		if err != nil {
			return nil, err
		}
		routes = append(routes, route)
		s.Process = newProcess(name, cfg.Dir, place, cfg.Binaries.NATS, []string{"-c", filepath.Join(cfg.Dir, name+".conf")}, os.Environ())
		servers = append(servers, s)
	}
	for i, s := range servers {
		if err := os.WriteFile(filepath.Join(cfg.Dir, s.Name()+".conf"), s.config(i, routes), 0o600); err != nil {
			return nil, err
		}
	}
	return servers, nil
}

// config is the server's configuration file. The streams reserve what they may
// grow to, far more than a test needs.
func (s *NATSServer) config(i int, routes []string) []byte {
	text := fmt.Sprintf(`
server_name: %s
listen: "%s"
http: "%s"
jetstream { store_dir: "%s", max_file_store: 10TB }
`, s.Name(), s.Addr, s.adminAddr, s.Data)
	if len(routes) > 1 {
		text += fmt.Sprintf("cluster { name: gateway, listen: \"%s\", routes: [ nats-route://%s ] }\n",
			routes[i], strings.Join(routes, ", nats-route://"))
	}
	return []byte(text)
}

// RedisServer is a redis-server process. It keeps nothing over a restart.
type RedisServer struct {
	*Process
	// Addr is host:port.
	Addr string
}

// URL is where clients connect.
func (s *RedisServer) URL() string { return "redis://" + s.Addr }

func newRedis(cfg Config) (*RedisServer, error) {
	const name = "redis"
	place, err := cfg.place(name)
	if err != nil {
		return nil, err
	}
	addr, err := place.reserve()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	args := []string{"--bind", host, "--port", port, "--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", cfg.Dir}
	return &RedisServer{Process: newProcess(name, cfg.Dir, place, cfg.Binaries.Redis, args, os.Environ()), Addr: addr}, nil
}

// AwaitReady waits until the server answers.
func (s *RedisServer) AwaitReady(ctx context.Context) error {
	return poll(ctx, s.Process, func() error {
		conn, err := net.DialTimeout("tcp", s.Addr, askTimeout)
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
			return fmt.Errorf("redis answers %q: %w", line, err)
		}
		return nil
	})
}
