package gatewayctl

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

func (p *program) publishCommand() *cobra.Command {
	var e event.Event
	var payload string
	var noAck bool
	c := &cobra.Command{
		Use: "publish <orchestrator>", Short: "Publish an event to an orchestrator, under a new id", Args: cobra.ExactArgs(1),
	}
	a := p.actFlags(c)
	a.Because = "published by hand"
	c.Flags().Lookup("because").Usage, c.Flags().Lookup("because").DefValue = "why, for the audit log", a.Because
	c.Flags().StringVar((*string)(&e.Type), "type", "message.received", "type of the event")
	c.Flags().StringVar(&payload, "payload", "{}", "its payload, a JSON object")
	c.Flags().StringVar(&e.ID, "id", "", "its id, instead of a new one")
	c.Flags().StringVar((*string)(&e.DaemonID), "daemon", "", "for one daemon alone")
	c.Flags().StringVar(&e.ChannelID, "channel", "", "its channel")
	c.Flags().BoolVar(&noAck, "no-ack", false, "it needs no acknowledgement")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.check(); err != nil {
			return err
		}
		e.OrchestratorID, e.Payload, e.RequiresAck = protocol.OrchestratorID(args[0]), json.RawMessage(payload), !noAck
		e.ID = cmp.Or(e.ID, "by-hand-"+rand.Text())
		e.Timestamp = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
		if _, err := e.MarshalJSON(); err != nil {
			return usageError{err}
		}
		return p.onStreams(cmd.Context(), func(ctx context.Context, client *operation.Client, js jetstream.JetStream) error {
			ctx, cancel := context.WithTimeout(ctx, 2*p.timeout)
			defer cancel()
			return p.publish(ctx, client, js, a, e)
		})
	}
	return c
}

// newPublisher leaves it to the routers what is too large for the cluster, whose
// MAX_EVENT_BYTES is not known here.
func newPublisher(js jetstream.JetStream) (*publisher.Publisher, error) {
	return publisher.New(js, publisher.Config{MaxEventBytes: int(js.Conn().MaxPayload())})
}

// published is what became of an event that was published by hand.
type published struct {
	Event     string          `json:"event"`
	Partition event.Partition `json:"partition"`
	Sequence  uint64          `json:"sequence"`
	Duplicate bool            `json:"duplicate"`
}

func (p *program) publish(ctx context.Context, client *operation.Client, js jetstream.JetStream, a *act, e event.Event) error {
	into, err := newPublisher(js)
	if err != nil {
		return err
	}
	if err := note(ctx, client, a, operation.Published, fmt.Sprintf("event %s to orchestrator %s", e.ID, e.OrchestratorID)); err != nil {
		return err
	}
	ack, err := into.Publish(ctx, e)
	if err != nil {
		return err
	}
	return p.show(published{e.ID, ack.Partition, ack.Sequence, ack.Duplicate}, func(w io.Writer) {
		stored := "stored"
		if ack.Duplicate {
			stored = "was stored before"
		}
		fmt.Fprintf(w, "%s %s in partition %d as %d\n", e.ID, stored, ack.Partition, ack.Sequence)
	})
}

// signing is what tokens are signed with.
type signing struct {
	DaemonJWTSecret settings.Secret `name:"daemon-jwt-secret"`
}

// grantFlags are those of whoever needs a token.
type grantFlags struct {
	daemon string
	lasts  time.Duration
	scopes []string
}

func (g *grantFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&g.daemon, "daemon", "by-hand", "the daemon's id")
	c.Flags().DurationVar(&g.lasts, "for", time.Hour, "how long the token lives")
	c.Flags().StringSliceVar(&g.scopes, "scopes", nil, "its scopes; none: unrestricted, unless SCOPES_STRICT")
}

// mint signs a token with DAEMON_JWT_SECRET.
func (p *program) mint(orchestrator string, g grantFlags) (string, error) {
	var cfg signing
	if err := settings.Parse("gatewayctl", "", &cfg, nil, p.environ); err != nil {
		return "", err
	}
	if cfg.DaemonJWTSecret == "" {
		return "", usageError{errors.New("expected DAEMON_JWT_SECRET or DAEMON_JWT_SECRET_FILE, that of the edges")}
	}
	now := time.Now()
	return auth.Mint(cfg.DaemonJWTSecret, auth.Grant{
		Orchestrator: protocol.OrchestratorID(orchestrator), Daemon: protocol.DaemonID(g.daemon), Scopes: g.scopes,
		IssuedAt: now, ExpiresAt: now.Add(g.lasts), TokenID: "by-hand-" + rand.Text(),
	})
}

func (p *program) tokenCommand() *cobra.Command {
	var g grantFlags
	c := &cobra.Command{
		Use: "token <orchestrator>", Short: "Make an access token with DAEMON_JWT_SECRET, for trying", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			token, err := p.mint(args[0], g)
			if err != nil {
				return err
			}
			return p.show(map[string]string{"token": token}, func(w io.Writer) { fmt.Fprintln(w, token) })
		},
	}
	g.add(c)
	return c
}

func (p *program) connectCommand() *cobra.Command {
	var g grantFlags
	var token string
	var urls, types []string
	var count int
	var noAck bool
	c := &cobra.Command{
		Use:   "connect <orchestrator>",
		Short: "Connect as a daemon by hand, with heartbeats, and show what comes",
		Long: "Connect as a daemon by hand, with heartbeats, and show what comes until Ctrl-C. It acknowledges each event: " +
			"with the id of a daemon that exists, that one's events come here and count as delivered.",
		Args: cobra.ExactArgs(1),
	}
	g.add(c)
	c.Flags().StringSliceVar(&urls, "url", []string{"ws://127.0.0.1:8080/daemon/ws"}, "where daemons connect; of several, each attempt takes the next")
	c.Flags().StringVar(&token, "token", "", "an access token; without it one is made with DAEMON_JWT_SECRET")
	c.Flags().StringSliceVar(&types, "types", []string{string(protocol.AllEvents)}, "patterns of event types to subscribe to")
	c.Flags().IntVar(&count, "count", 0, "end after so many events")
	c.Flags().BoolVar(&noAck, "no-ack", false, "acknowledge nothing")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		v := &visitor{program: p, count: count, noAck: noAck}
		subscribe := protocol.Subscribe{}
		for _, pattern := range types {
			subscribe.EventTypes = append(subscribe.EventTypes, protocol.Pattern(pattern))
		}
		if _, err := v.token(args[0], token, g); err != nil {
			return err
		}
		return v.visit(cmd.Context(), client.Config{
			URLs: urls, OrchestratorID: protocol.OrchestratorID(args[0]), DaemonID: protocol.DaemonID(g.daemon),
			Token:         func(context.Context) (string, error) { return v.token(args[0], token, g) },
			Subscriptions: []protocol.Subscribe{subscribe},
		})
	}
	return c
}

// visitor is a daemon by hand.
type visitor struct {
	*program
	noAck bool
	end   context.CancelFunc

	mu    sync.Mutex
	count int // events that are still wanted; 0: however many
}

func (v *visitor) token(orchestrator, given string, g grantFlags) (string, error) {
	if given != "" {
		return given, nil
	}
	return v.mint(orchestrator, g)
}

func (v *visitor) visit(ctx context.Context, cfg client.Config) error {
	ctx, v.end = context.WithCancel(ctx)
	defer v.end()
	cfg.OnState, cfg.Handler = v.state, v.event
	daemon, err := client.New(cfg)
	if err != nil {
		return usageError{err}
	}
	return daemon.Run(ctx)
}

func (v *visitor) state(s client.StateChange) {
	switch s.State {
	case client.StateSubscribed:
		fmt.Fprintf(v.err, "subscribed at %s\n", s.URL)
	case client.StateDisconnected:
		fmt.Fprintf(v.err, "disconnected (%s)\n", s.Close)
	}
}

func (v *visitor) event(_ context.Context, e protocol.Event) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := fmt.Sprintf("%s  %s  %s  %s", time.Now().Format("15:04:05.000"), e.EventType, oneLine(e.EventID), e.Data)
	if v.format == formatJSON {
		text, err := json.Marshal(map[string]any{"id": e.EventID, "type": e.EventType, "payload": e.Data, "position": e.Position, "redelivered": e.Redelivered})
		if err != nil {
			return err
		}
		line = string(text)
	}
	fmt.Fprintln(printed{v.out}, line)
	if v.count--; v.count == 0 {
		// Once this one is acknowledged.
		time.AfterFunc(lastAck, v.end)
	}
	if v.noAck {
		return client.ErrNoAck
	}
	return nil
}

// lastAck is more than the client gathers acknowledgements for.
const lastAck = 200 * time.Millisecond
