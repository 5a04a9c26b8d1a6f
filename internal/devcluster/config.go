package devcluster

import (
	"log/slog"
	"path/filepath"

	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config is the configuration of a development cluster. What it does not name
// has the default of the tier, or a value that fits one machine.
type Config struct {
	Edges   int    `help:"Edges to run." default:"2" min:"1" max:"20" group:"Cluster"`
	Routers int    `help:"Routers to run." default:"2" min:"1" max:"20" group:"Cluster"`
	Bridges int    `help:"Publisher bridges to run." default:"2" min:"1" max:"20" group:"Cluster"`
	Data    string `help:"Directory for the embedded NATS server's data and the generated secret. A cluster started again on it continues." default:"data" group:"Cluster"`
	Demo    bool   `help:"Run demo daemons and a demo publisher, and print what happens. With DATABASE_URL their orchestrators demo-1, demo-2, … must exist." group:"Cluster"`

	Port      int `help:"Port of the first edge; the others follow. A port that is taken is replaced by a free one, here and below." default:"8080" min:"0" max:"65535" group:"Ports"`
	AdminPort int `help:"Port of the first admin server; edges, routers and bridges follow one another." default:"9090" min:"0" max:"65535" group:"Ports"`
	NATSPort  int `name:"nats-port" help:"Port of the embedded NATS server." default:"4222" min:"0" max:"65535" group:"Ports"`
	RedisPort int `name:"redis-port" help:"Port of the embedded Redis-compatible server." default:"6379" min:"0" max:"65535" group:"Ports"`

	NATSURL         []settings.URL  `name:"nats-url" help:"Use these NATS servers instead of the embedded one." group:"Servers"`
	RedisURL        settings.URL    `name:"redis-url" help:"Use this Redis server instead of the embedded one." group:"Servers"`
	DaemonJWTSecret settings.Secret `name:"daemon-jwt-secret" help:"Secret that access tokens are signed with; generated and kept in the data directory when not given." group:"Servers"`

	Postgres postgres.Config `embed:""`

	LogLevel  slog.Level `help:"Least severe level that the nodes log, to standard error." default:"warn" group:"Logging"`
	LogFormat string     `help:"Form of log lines; unset: text on a terminal, else json." default:"" enum:"json,text" group:"Logging"`
}

// Program describes devcluster with these settings, for its main function and for
// the page of all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "devcluster",
		Description: "Runs a whole cluster in one process, for trying it out: edges, routers, bridges, and the servers they need.",
		Config:      c,
		Example:     "devcluster --demo --edges 3",
	}
}

// Logging is how the nodes log.
func (c Config) Logging() settings.Logging {
	return settings.Logging{LogLevel: c.LogLevel, LogFormat: c.LogFormat}
}

func (c Config) natsDirectory() string { return filepath.Join(c.Data, "nats") }
func (c Config) secretFile() string    { return filepath.Join(c.Data, "jwt-secret") }
