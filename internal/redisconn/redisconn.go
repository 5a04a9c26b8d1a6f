// Package redisconn is the client of Neolith's Redis, and the settings that say
// which server that is: one alone, a master that Sentinels know, or a Cluster.
// What is heard and written there, its users decide.
package redisconn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says where Redis is and how to authenticate there.
type Config struct {
	RedisURL        settings.URL `help:"Redis server, redis://, rediss:// (TLS) or unix:// (a socket's path), with user, password and database number where needed, and of the client library's options db, client_name and skip_verify. Sentinels that ask for a password get the same one, or the options sentinel_username and sentinel_password of the URL." default:"redis://127.0.0.1:6379" group:"Redis"`
	RedisAddrs      []string     `help:"Sentinels or nodes of a Redis Cluster, a list of host:port. They replace the host of REDIS_URL, whose other parts stay in force." group:"Redis"`
	RedisMasterName string       `help:"Name under which the Sentinels in REDIS_ADDRS know the master; empty: REDIS_ADDRS are nodes of a Cluster." group:"Redis"`
	RedisTLSCA      string       `name:"redis-tls-ca" help:"File with the certificates of the authorities that may sign the certificate of a server with rediss://, and of a Sentinel; those of the system if not given." group:"Redis"`
	RedisTLSCert    string       `name:"redis-tls-cert" help:"File with this node's client certificate, read again for each connection." group:"Redis"`
	RedisTLSKey     string       `name:"redis-tls-key" help:"File with the key of the client certificate." group:"Redis"`

	RedisTLSServerName string `name:"redis-tls-server-name" help:"Name that the certificate of each server, and of each Sentinel, must be for; that of its address if not given. For Sentinels and Clusters that name servers by IP addresses, which their certificates do not have." group:"Redis"`
}

// Validate reports what cannot be connected to.
func (c Config) Validate(report func(setting, problem string)) {
	// ParseURL's error may quote the password, so it is not passed on.
	base, _, err := c.parse()
	if err != nil {
		report("REDIS_URL", "expected redis://[user:password@]host[:port][/database], rediss://… or unix:///…")
	}
	for _, name := range c.unused() {
		report("REDIS_URL", "expected no option "+name+": it would have no effect")
	}
	if c.RedisMasterName != "" && len(c.RedisAddrs) == 0 {
		report("REDIS_ADDRS", "expected the Sentinels' addresses, since REDIS_MASTER_NAME is given")
	}
	if slices.ContainsFunc(c.RedisAddrs, func(addr string) bool { return !isHostPort(addr) }) {
		report("REDIS_ADDRS", "expected host:port for each")
	}
	if err == nil {
		c.validateTLS(base, report)
	}
	if err == nil && base.DB != 0 && c.cluster() {
		report("REDIS_URL", "expected no database number: a Redis Cluster has only one database")
	}
}

// Server says where Redis is, without credentials.
func (c Config) Server() string {
	addresses := strings.Join(c.RedisAddrs, ", ")
	switch {
	case c.RedisMasterName != "":
		return fmt.Sprintf("master %s of the Sentinels %s", c.RedisMasterName, addresses)
	case addresses != "":
		return "the Cluster of " + addresses
	}
	base, _, err := c.parse()
	if err != nil {
		return "Redis"
	}
	return base.Addr
}

// credentials are a user's; the zero value is nobody's.
type credentials struct{ username, password string }

// parse reads the URL, and the credentials for Sentinels in it, by the names that
// the client library has for them.
func (c Config) parse() (base *redis.Options, sentinel credentials, err error) {
	text, query, found := strings.Cut(string(c.RedisURL), "?")
	if found {
		options, err := url.ParseQuery(query)
		if err != nil {
			return nil, credentials{}, errURL
		}
		sentinel = credentials{options.Get("sentinel_username"), options.Get("sentinel_password")}
		options.Del("sentinel_username")
		options.Del("sentinel_password")
		if len(options) > 0 {
			text += "?" + options.Encode()
		}
	}
	base, err = redis.ParseURL(text)
	return base, sentinel, err
}

// used are the options of a URL that have an effect here. The library knows more:
// how patient a node is, and how many connections it has, is not to be turned.
var used = []string{"db", "client_name", "skip_verify", "sentinel_username", "sentinel_password"}

// unused are the other options of a URL that the library knows. What it does not
// know is not told: it may be a part of a password.
func (c Config) unused() []string {
	_, query, _ := strings.Cut(string(c.RedisURL), "?")
	options, err := url.ParseQuery(query)
	if _, _, invalid := c.parse(); err != nil || invalid != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(options)), func(name string) bool { return slices.Contains(used, name) })
}

// introduce authenticates to a server that asks for a password although none was
// given for it: a Sentinel, where the same password is set for all. Those that ask
// for none refuse one, so it cannot be sent in any case.
func introduce(who credentials) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, conn *redis.Conn) error {
		err := conn.Ping(ctx).Err()
		switch {
		case !redis.HasErrorPrefix(err, "NOAUTH"):
			return nil // whatever else is wrong, the next command says
		case who.username != "":
			return conn.AuthACL(ctx, who.username, who.password).Err()
		}
		return conn.Auth(ctx, who.password).Err()
	}
}

// cluster reports whether the servers are nodes of a Redis Cluster.
func (c Config) cluster() bool { return len(c.RedisAddrs) > 0 && c.RedisMasterName == "" }

func isHostPort(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// Timeouts of single operations; they also bound how long a stop may wait for
// one.
const (
	dialTimeout = 3 * time.Second
	// IOTimeout is for a command and its answer.
	IOTimeout = 3 * time.Second
	// lifetime is how long a pooled connection is used. After a failover one may
	// lead to a server that answers and is not the master any more, however its name
	// is resolved by now; to make a new one costs nothing.
	lifetime = time.Minute
)

var errURL = errors.New("REDIS_URL is not a valid redis:// or rediss:// URL")

// NewClient returns a client that has not connected yet. It repeats nothing:
// its users know what may be repeated. c is valid.
func NewClient(c Config) (redis.UniversalClient, error) {
	base, sentinel, err := c.parse()
	if err != nil {
		return nil, errURL
	}
	options := &redis.UniversalOptions{
		Addrs:      []string{base.Addr},
		Username:   base.Username,
		Password:   base.Password,
		DB:         base.DB,
		ClientName: base.ClientName,
		TLSConfig:  base.TLSConfig,
		// RESP2: every server speaks it, and pub/sub needs nothing newer.
		Protocol:        2,
		DialTimeout:     dialTimeout,
		DialerRetries:   1,
		MaxRetries:      -1,
		ReadTimeout:     IOTimeout,
		WriteTimeout:    IOTimeout,
		ConnMaxLifetime: lifetime,
		// So that a lookup ends with its context.
		ContextTimeoutEnabled: true,
	}
	if options.TLSConfig != nil {
		if err := c.secure(options.TLSConfig); err != nil {
			return nil, err
		}
	}
	if len(c.RedisAddrs) > 0 {
		options.Addrs = c.RedisAddrs
		options.MasterName = c.RedisMasterName
		options.IsClusterMode = c.cluster()
		options.SentinelUsername, options.SentinelPassword = sentinel.username, sentinel.password
		if c.RedisMasterName != "" && sentinel.password == "" && base.Password != "" {
			options.OnConnect = introduce(credentials{base.Username, base.Password})
		}
		if options.TLSConfig != nil {
			// Each server has a name of its own, taken from its address.
			options.TLSConfig = options.TLSConfig.Clone()
			options.TLSConfig.ServerName = c.RedisTLSServerName
		}
	}
	return redis.NewUniversalClient(options), nil
}
