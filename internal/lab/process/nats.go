package process

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// NATS is a nats-server process with JetStream. It keeps its addresses and its
// data over all starts.
type NATS struct {
	*Process
	// Addr is host:port for clients.
	Addr string
	// Data is the directory with all that it keeps.
	Data string

	admin, route string // addresses
}

// NewNATS lays out NATS servers that are one cluster, or one that stands alone.
func NewNATS(servers ...Server) ([]*NATS, error) {
	var all []*NATS
	var routes []string
	for _, s := range servers {
		n := &NATS{Process: New(s.config("-c", s.natsFile())), Data: filepath.Join(s.Dir, s.Name)}
		for _, address := range []*string{&n.Addr, &n.admin, &n.route} {
			var err error
			if *address, err = s.reserve(); err != nil {
				return nil, fmt.Errorf("lay out %s: %w", s.Name, err)
			}
		}
		routes = append(routes, "nats-route://"+n.route)
		all = append(all, n)
	}
	for i, n := range all {
		text := n.configuration(routes) + strings.Join(servers[i].Settings, "\n")
		if err := os.WriteFile(servers[i].natsFile(), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("lay out %s: %w", n.Name(), err)
		}
	}
	return all, nil
}

func (s Server) natsFile() string { return filepath.Join(s.Dir, s.Name+".conf") }

// configuration is the server's. The streams reserve what they may grow to, far
// more than a test needs.
func (n *NATS) configuration(routes []string) string {
	text := fmt.Sprintf(`
server_name: %s
listen: "%s"
http: "%s"
jetstream { store_dir: "%s", max_file_store: 10TB }
`, n.Name(), n.Addr, n.admin, n.Data)
	if len(routes) > 1 {
		text += fmt.Sprintf("cluster { name: gateway, listen: \"%s\", routes: [ %s ] }\n", n.route, strings.Join(routes, ", "))
	}
	return text
}

// URL is where clients connect.
func (n *NATS) URL() string { return "nats://" + n.Addr }

// NATSURL is where clients connect to any of some servers, separated by commas.
func NATSURL(servers []*NATS) string {
	var urls []string
	for _, n := range servers {
		urls = append(urls, n.URL())
	}
	return strings.Join(urls, ",")
}

// AwaitReady waits until the server is healthy, JetStream included; as member
// of a cluster that needs a majority.
func (n *NATS) AwaitReady(ctx context.Context) error {
	return n.Await(ctx, func() error {
		resp, err := Get(ctx, "http://"+n.admin+"/healthz")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: /healthz answers %s", n.Name(), resp.Status)
		}
		return nil
	})
}

// Leave ends the server by its lame duck mode and waits for its end: it gives
// its streams to others first, and closes its clients' connections last, one
// after the other.
func (n *NATS) Leave(ctx context.Context) error {
	_, err := n.End(ctx, syscall.SIGUSR2)
	return err
}

// NATSUsage is what a server holds for its clients.
type NATSUsage struct {
	Connections   int `json:"connections"`
	Subscriptions int `json:"subscriptions"`
	Streams       int `json:"streams"`
	Consumers     int `json:"consumers"`
	Messages      int `json:"messages"` // stored, in all streams
	// Received is how many messages clients have sent it since it was started.
	Received int `json:"in_msgs"`
}

// Usage asks the server what it holds.
func (n *NATS) Usage(ctx context.Context) (u NATSUsage, err error) {
	for _, page := range []string{"/varz", "/jsz"} {
		resp, err := Get(ctx, "http://"+n.admin+page)
		if err != nil {
			return u, err
		}
		err = json.NewDecoder(resp.Body).Decode(&u)
		_ = resp.Body.Close()
		if err != nil {
			return u, fmt.Errorf("%s: %s: %w", n.Name(), page, err)
		}
	}
	return u, nil
}
