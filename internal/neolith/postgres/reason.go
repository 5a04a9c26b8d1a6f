package postgres

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/neolith/daemon-gateway/internal/outage"
)

// Server says where PostgreSQL is, without credentials; "" where there is none.
func (c Config) Server() string {
	if !c.Enabled() {
		return ""
	}
	target, err := c.parse()
	if err != nil {
		return ""
	}
	return servers(target.pool.ConnConfig)
}

// servers are the addresses that connections are made to.
func servers(config *pgx.ConnConfig) string {
	address := func(host string, port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	list := []string{address(config.Host, config.Port)}
	for _, other := range config.Fallbacks { // the same without TLS among them
		if a := address(other.Host, other.Port); !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return strings.Join(list, ", ")
}

// reason says in words why PostgreSQL does not answer.
func (d *DB) reason(err error) string {
	var (
		said    *pgconn.PgError
		connect *pgconn.ConnectError
	)
	switch {
	case strings.Contains(d.servers, ",") && errors.As(err, &connect):
		return outage.OneLine(err.Error()) // it tells of each server
	case errors.As(err, &said) && strings.HasPrefix(said.Code, "28"):
		return "authorization: " + said.Message + " (SQLSTATE " + said.Code + ")"
	case errors.As(err, &said):
		return said.Message + " (SQLSTATE " + said.Code + ")"
	}
	return outage.Reason(err)
}
