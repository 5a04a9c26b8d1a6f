package devcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// readyPoll is how often nodes are asked whether they are ready.
	readyPoll = 50 * time.Millisecond
	// handToken is how long the token for trying by hand is valid.
	handToken = 24 * time.Hour
	// As whom the lines to copy, for trying by hand, connect.
	handOrchestrator protocol.OrchestratorID = "you"
	handDaemon       protocol.DaemonID       = "your-daemon"
)

// account tells a person what runs, when it is ready, how to try it and, in a
// demo, what happens.
func (c *Cluster) account(ctx context.Context) error {
	c.tellNodes()
	if err := c.waitReady(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := c.tellByHand(); err != nil {
		return err
	}
	if !c.cfg.Demo {
		<-ctx.Done()
		return nil
	}
	return ignoreEnd(ctx, c.demo(ctx))
}

// ignoreEnd is nil for an error that is only the end of ctx.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Cluster) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

func (c *Cluster) tellNodes() {
	c.say("Daemon Gateway, a development cluster (data in %s)", c.cfg.Data)
	c.say("")
	c.say("  nats      %s", c.nats[0])
	c.say("  redis     %s", c.redis)
	urls := c.EdgeURLs()
	for i, n := range c.nodes {
		address := ""
		if i < len(urls) {
			address = urls[i] + "   "
		}
		c.say("  %-9s %sadmin http://%s/readyz", n.name, address, n.admin)
	}
	c.say("")
}

// waitReady returns when every node says that it is ready.
func (c *Cluster) waitReady(ctx context.Context) error {
	start := time.Now()
	for _, n := range c.nodes {
		for !ready(ctx, n.admin) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(readyPoll):
			}
		}
	}
	c.say("All nodes are ready after %s.", time.Since(start).Round(10*time.Millisecond))
	return nil
}

func ready(ctx context.Context, admin string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return errors.Join(resp.Body.Close()) == nil && resp.StatusCode == http.StatusOK
}

// secretForHand is what else gatewayctl needs to make tokens, unless the secret was
// given: then it is where it came from.
func (c *Cluster) secretForHand() string {
	if c.cfg.DaemonJWTSecret != "" {
		return ""
	}
	return " DAEMON_JWT_SECRET_FILE=" + c.cfg.secretFile()
}

// tellByHand prints lines to copy.
func (c *Cluster) tellByHand() error {
	token, err := c.Token(handOrchestrator, handDaemon, handToken)
	if err != nil {
		return err
	}
	redis, err := url.Parse(c.RedisURL())
	if err != nil {
		return fmt.Errorf("read the address of Redis: %w", err)
	}
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	spare, spareURL, err := c.writeSpareEdge()
	if err != nil {
		return err
	}
	c.say(`
Try it by hand, as orchestrator %q, in another terminal:

  export NATS_URL=%[8]s%[9]s
  bin/gatewayctl connect %[1]s --url %[3]s
  bin/gatewayctl publish %[1]s --payload '{"content":"hello"}'
  bin/gatewayctl top

Kill an edge without a word, and see that nothing is lost:

  (set -a; . %[10]s; exec bin/edge) & edge=$!
  bin/gatewayctl connect %[1]s --daemon moves --url %[11]s,%[3]s &
  kill -9 $edge; bin/gatewayctl publish %[1]s --payload '{"content":"still there"}'

Or with other tools:

  a token, valid for a day:
    %[2]s

  connect, authenticate, subscribe (acknowledge with {"type":"ack","id":"3","timestamp":%[4]q,"payload":{"eventIds":["<eventId>"]}}):
    { echo '{"type":"auth","id":"1","timestamp":%[4]q,"payload":{"accessToken":"%[2]s","daemonId":%[5]q,"orchestratorId":%[1]q}}'; echo '{"type":"subscribe","id":"2","timestamp":%[4]q,"payload":{"eventTypes":["*"]}}'; cat; } | websocat %[3]s

  publish an event for it, before, while or after it is connected:
    redis-cli -h %[6]s -p %[7]s PUBLISH daemon:events '{"id":"hello-'$(date +%%s%%N)'","type":"message.received","orchestratorId":%[1]q,"payload":{"content":"hello"},"timestamp":%[4]q,"requiresAck":true}'
`, handOrchestrator, token, c.EdgeURLs()[0], now, handDaemon, redis.Hostname(), redis.Port(),
		c.NATSURL(), c.secretForHand(), spare, spareURL)
	c.say("Ctrl-C stops the cluster.")
	return nil
}
