package postgres

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says where Neolith's database is.
type Config struct {
	DatabaseURL      settings.URL `help:"Neolith's PostgreSQL database, postgres://user:password@host:port/database, as its backend has it; PgBouncer in transaction mode works. Of several hosts that one is used that can be written to, unless target_session_attrs says otherwise. Unset: tokens alone say who a daemon is, bridges translate no ids, and neither presence nor history is written." group:"PostgreSQL"`
	DatabaseTLSCA    string       `name:"database-tls-ca" help:"File with the certificates of the authorities that may sign the server's certificate, which must then be its own (verify-full); as sslrootcert in DATABASE_URL." group:"PostgreSQL"`
	DatabaseTLSCert  string       `name:"database-tls-cert" help:"File with this node's client certificate, read when the node starts; as sslcert in DATABASE_URL." group:"PostgreSQL"`
	DatabaseTLSKey   string       `name:"database-tls-key" help:"File with the key of the client certificate; as sslkey in DATABASE_URL." group:"PostgreSQL"`
	DatabaseMaxConns int          `help:"Connections that this node may have to PostgreSQL at most." default:"10" min:"1" max:"1000" group:"PostgreSQL"`
}

// Enabled reports whether there is a database at all.
func (c Config) Enabled() bool { return c.DatabaseURL != "" }

// Validate reports a URL that cannot be connected to.
func (c Config) Validate(report func(setting, problem string)) {
	if !c.Enabled() {
		return
	}
	if !c.validateTLS(report) {
		return
	}
	// The parser's error may quote the password, so it is not passed on.
	if _, err := c.parse(); err != nil {
		report("DATABASE_URL", "expected postgres://user:password@host:port/database, with options that PostgreSQL or Prisma knows")
	}
}

const (
	connectTimeout = 3 * time.Second
	// pingTimeout is for connections that were idle for over a second: one that
	// a failover has left half open costs no more than this.
	pingTimeout = time.Second
	// A connection is renewed after 30 to 35 minutes, so that load follows a
	// changed DNS name or a new server behind a proxy, not all at once.
	connLifetime       = 30 * time.Minute
	connLifetimeJitter = 5 * time.Minute
	connIdleTime       = 5 * time.Minute
	healthCheckPeriod  = 30 * time.Second
)

// target is DATABASE_URL as we use it.
type target struct {
	pool   *pgxpool.Config
	schema string // of Neolith's tables
	writes bool   // the server must be one that can be written to
}

var errURL = errors.New("DATABASE_URL cannot be used")

// parse turns the URL, which may carry the options that Prisma knows, into a
// pool's configuration that works through PgBouncer in transaction mode.
func (c Config) parse() (target, error) {
	text, schema, err := withoutPrisma(string(c.DatabaseURL), c.tlsOptions())
	if err != nil {
		return target{}, err
	}
	pool, err := pgxpool.ParseConfig(text)
	if err != nil {
		return target{}, errURL
	}
	// Nothing is prepared on the server under a name, because the next
	// transaction may be on another server connection; and nothing is cached
	// about Neolith's tables, because its migrations change them under us (a
	// cached description then fails once on each connection). The price is that
	// arguments travel as text with the type that their Go type implies: SQL
	// casts where that is not the column's.
	pool.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool.ConnConfig.StatementCacheCapacity = 0
	pool.ConnConfig.DescriptionCacheCapacity = 0
	pool.ConnConfig.ConnectTimeout = connectTimeout
	// There is no statement_timeout: PgBouncer refuses it at the start of a
	// connection, and SET would reach whoever uses the server connection next.
	// Whoever queries sets a deadline instead; at its end pgx cancels the query
	// on the server and gives the connection up.
	pool.MaxConns = int32(c.DatabaseMaxConns)
	pool.MinConns, pool.MinIdleConns = 0, 0
	pool.MaxConnLifetime = connLifetime
	pool.MaxConnLifetimeJitter = connLifetimeJitter
	pool.MaxConnIdleTime = connIdleTime
	pool.HealthCheckPeriod = healthCheckPeriod
	pool.PingTimeout = pingTimeout
	writes := !strings.Contains(text, "target_session_attrs=")
	if writes {
		// Of several hosts the primary; a server that cannot be written to is none.
		pool.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return target{pool: pool, schema: schema, writes: writes}, nil
}

// prismaOnly are options of Prisma's that PostgreSQL would refuse. They tell
// Prisma how to use its own pool and to prepare nothing, and mean nothing here.
var prismaOnly = []string{"pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size"}

// withoutPrisma translates the options of Prisma, whose URL operators already
// have, and sets some in addition. The URL is not parsed as a whole: net/url knows
// no lists of hosts.
func withoutPrisma(text string, more map[string]string) (translated, schema string, err error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return "", "", errURL
	}
	base, query, _ := strings.Cut(text, "?")
	options, err := url.ParseQuery(query)
	if err != nil || options.Has("sslidentity") { // a PKCS #12 file
		return "", "", errURL
	}
	schema = "public"
	if s := options.Get("schema"); s != "" {
		schema = s
	}
	if options.Get("sslaccept") == "strict" {
		options.Set("sslmode", "verify-full")
	}
	// Prisma's sslcert is the authority's certificate; a client's has a key.
	if ca := options.Get("sslcert"); ca != "" && !options.Has("sslkey") {
		options.Set("sslrootcert", ca)
		options.Del("sslcert")
	}
	for name, value := range more {
		options.Set(name, value)
	}
	// Whoever names an authority wants the server to be the right one.
	if options.Has("sslrootcert") && !options.Has("sslmode") && !options.Has("sslaccept") {
		options.Set("sslmode", "verify-full")
	}
	for _, name := range slices.Concat(prismaOnly, []string{"schema", "sslaccept"}) {
		options.Del(name)
	}
	if len(options) == 0 {
		return base, schema, nil
	}
	return base + "?" + options.Encode(), schema, nil
}
