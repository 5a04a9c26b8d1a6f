package edge

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/certificate"
	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Config is everything that an edge is told by its operator.
type Config struct {
	settings.Common
	Admin    admin.Config    `embed:""`
	NATS     natsconn.Config `embed:""`
	Log      eventlog.Config `embed:""`
	Upkeep   eventlog.Upkeep `embed:""`
	Ring     ring.Config     `embed:""`
	Auth     auth.Config     `embed:""`
	Listen   ListenConfig    `embed:""`
	Sockets  SocketConfig    `embed:""`
	Delivery DeliveryConfig  `embed:""`
	Balance  BalanceConfig   `embed:""`
	Trace    trace.Config    `embed:""`
	Spans    otlp.Config     `embed:""`
	Database DatabaseConfig  `embed:""`

	seriesTime time.Duration // of a series of subscribes, where a test gives it room
}

// Program describes edge with these settings, for its main function and for
// the page of all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "edge",
		Description: "Holds the daemons' WebSockets and delivers their events.",
		Config:      c,
		Example: "DAEMON_JWT_SECRET_FILE=/run/secrets/jwt GOSSIP_KEYS_FILE=/run/secrets/gossip \\\n" +
			"NATS_URL=nats://nats:4222 GOSSIP_JOIN=router-0:7946,router-1:7946 edge",
	}
}

// ListenConfig says where daemons connect, and who may.
type ListenConfig struct {
	Port              int                `help:"Port for daemons, on all addresses." default:"8080" min:"0" max:"65535" group:"Daemons"`
	ListenAddr        string             `help:"Address for daemons (host:port), instead of PORT." group:"Daemons"`
	TLS               certificate.Config `embed:"" group:"Daemons"`
	WSPath            string             `name:"ws-path" help:"Path of the WebSocket; /api/daemon/ws works as well." default:"/daemon/ws" group:"Daemons"`
	MaxConnections    int                `help:"Connections that this edge may hold at most, without those that have not authenticated; further ones get 503." default:"60000" min:"1" group:"Daemons"`
	RateConnectsPerIP int                `name:"rate-connects-per-ip" help:"Connects a second of one IP address (IPv6: of one /64), ten times as many at once; further ones get 429." default:"20" min:"1" group:"Daemons"`
	Access            access.Config      `embed:"" group:"Daemons"`
	OriginsFile       string             `name:"orchestrator-cidrs-file" help:"File that says from where the daemons of single orchestrators may connect: on each line an orchestrator's id and address ranges. Read again when it changes; those that it does not name may connect from anywhere. A token may say the same of itself, in the claim allowedCidrs." group:"Daemons"`
	DrainPeriod       time.Duration      `help:"Time over which daemons are sent away in a graceful stop." default:"20s" min:"0s" group:"Daemons"`
}

// originsSetting is the name of ListenConfig.OriginsFile.
const originsSetting = "ORCHESTRATOR_CIDRS_FILE"

// SocketConfig says how an edge talks with its daemons.
type SocketConfig struct {
	WSHeartbeatInterval   settings.Milliseconds `name:"ws-heartbeat-interval" help:"How often a daemon is to send a heartbeat; after three intervals without one it is disconnected." default:"30s" min:"100ms" group:"Protocol"`
	WSAuthTimeout         settings.Milliseconds `name:"ws-auth-timeout" help:"How long a new connection may take to authenticate." default:"10s" min:"100ms" group:"Protocol"`
	WSMaxConnectionsPerVP int                   `name:"ws-max-connections-per-vp" help:"Connections of one orchestrator over the whole cluster." default:"5" min:"1" group:"Protocol"`
	WSMaxMessageBytes     settings.ByteSize     `name:"ws-max-message-bytes" help:"Largest message of a daemon; a larger one disconnects it." default:"64KiB" min:"1KiB" max:"16MiB" group:"Protocol"`
	WSWriteTimeout        time.Duration         `name:"ws-write-timeout" help:"How long a daemon may take nothing of what is sent to it before it is disconnected." default:"10s" min:"100ms" group:"Protocol"`
	RateMessagesPerMinute int                   `help:"Messages a minute of one orchestrator on this edge; acks do not count, heartbeats are counted apart." default:"100" min:"1" group:"Protocol"`
	RateAcksPerMinute     int                   `help:"Acks a minute of one orchestrator on this edge; beyond that they are read more slowly." default:"6000" min:"1" group:"Protocol"`
}

// DeliveryConfig says how events are delivered.
type DeliveryConfig struct {
	AckTimeout    time.Duration `help:"How long an event waits without any acknowledgement of its daemon before it is sent again." default:"30s" min:"100ms" group:"Delivery"`
	MaxDeliveries int           `help:"How often an event is tried in vain before it goes to the dead letters. A try is in vain if the event was sent and not acknowledged in time, or if the connection broke meanwhile; a connection that ends gracefully does not count, nor, after two tries, one on which the daemon has not answered a ping that comes with the event." default:"5" min:"1" group:"Delivery"`
	WindowEvents  int           `help:"Unacknowledged events that a connection may have." default:"100" min:"1" max:"1000" group:"Delivery"`
	NetInterval   time.Duration `help:"How often the log is asked whether a connected daemon has missed anything." default:"60s" min:"100ms" group:"Delivery"`
}

// BalanceConfig says how an edge that holds clearly more connections than the
// mean of all edges sends some away.
type BalanceConfig struct {
	BalanceRate    int           `help:"Connections a second that this edge sends away while it holds more than 10 % over the mean of all edges, until it is within 5 %; 0 switches that off." default:"20" min:"0" group:"Balance"`
	BalanceMinimum int           `help:"Connections that this edge keeps in any case." default:"100" min:"1" group:"Balance"`
	BalanceAfter   time.Duration `help:"How long the edges must have been the same, and a connection have been up, before that connection is sent away." default:"5m" min:"1s" group:"Balance"`
}

// windowBytes bounds the bodies of the unsettled events of a connection.
const windowBytes = 1 << 20

// Validate reports settings that contradict each other.
func (c *Config) Validate(report func(setting, problem string)) {
	c.Listen.TLS.Check("", report)
	if !strings.HasPrefix(c.Listen.WSPath, "/") || strings.ContainsAny(c.Listen.WSPath, "?#{} ") {
		report("WS_PATH", "expected a path that starts with /")
	}
	if c.Listen.WSPath == httpevents.Path {
		report("WS_PATH", "expected another path than that of the events by HTTP")
	}
	if addr := c.Listen.ListenAddr; addr != "" {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			report("LISTEN_ADDR", "expected an address such as 0.0.0.0:8080")
		}
	}
	c.Listen.Access.Check("", report)
	if path := c.Listen.OriginsFile; path != "" {
		if err := access.CheckOrigins(path); err != nil {
			report(originsSetting, "expected a file with the id of an orchestrator and address ranges on each line: "+err.Error())
		}
	}
	if c.Listen.DrainPeriod >= c.ShutdownTimeout {
		report("DRAIN_PERIOD", "expected less than SHUTDOWN_TIMEOUT")
	}
}

// features are what is switched on.
func (c *Config) features() (on settings.Features) {
	on.Add("TLS", c.Listen.TLS.Enabled())
	on.Add("PostgreSQL", c.Database.Postgres.Enabled())
	on.Add("tokens signed with public keys", c.Auth.PublicKeys())
	on.Add("strict tokens", c.Auth.JWTStrict)
	on.Add("strict scopes", c.Auth.ScopesStrict)
	on.Add("encrypted gossip", len(c.Ring.GossipKeys) > 0)
	on.Add("trusted proxies", len(c.Listen.Access.TrustedProxies) > 0)
	on.Add("balance", c.Balance.BalanceRate > 0)
	on.Add("tracing", c.Trace.TraceSample > 0)
	on.Add("OpenTelemetry", c.Spans.Enabled())
	on.Add("stream management", c.Upkeep.ManageStreams)
	on.Add("profiles", c.Admin.EnablePprof)
	return on
}

func (c ListenConfig) address() string {
	if c.ListenAddr != "" {
		return c.ListenAddr
	}
	return net.JoinHostPort("", strconv.Itoa(c.Port))
}

func (c *Config) conversation(v conversation.Verifier) *conversation.Config {
	return &conversation.Config{
		Verifier:          v,
		AuthTimeout:       c.Sockets.WSAuthTimeout.Duration(),
		HeartbeatInterval: c.Sockets.WSHeartbeatInterval.Duration(),
		Rates: conversation.Rates{
			MessagesPerMinute: c.Sockets.RateMessagesPerMinute,
			AcksPerMinute:     c.Sockets.RateAcksPerMinute,
		},
	}
}

func (c *Config) session(token event.Token, daemon protocol.DaemonID, p event.Partition) session.Config {
	return session.Config{
		Orchestrator: token, Daemon: daemon, Partition: p,
		WindowEvents: c.Delivery.WindowEvents, WindowBytes: windowBytes,
		AckTimeout: c.Delivery.AckTimeout, MaxVainTries: c.Delivery.MaxDeliveries,
		// One heartbeat that is late does not make a daemon silent.
		SilentAfter:   c.Sockets.WSHeartbeatInterval.Duration() * 3 / 2,
		MaxEventBytes: int(c.Log.MaxEventBytes), EventsPerOrchestrator: int(c.Log.EventsPerOrchestrator),
		SeriesTime: c.seriesTime,
	}
}

const (
	closeTimeout  = 5 * time.Second
	maxReplies    = 64
	maxReplyBytes = 64 << 10
)

func (c *Config) socket(crew *lifecycle.Crew, panicked func(value any)) socket.Config {
	return socket.Config{
		MaxMessageBytes: int(c.Sockets.WSMaxMessageBytes),
		WriteTimeout:    c.Sockets.WSWriteTimeout,
		CloseTimeout:    closeTimeout,
		MaxReplies:      maxReplies,
		MaxReplyBytes:   maxReplyBytes,
		Go:              crew.Go,
		Panicked:        panicked,
	}
}
