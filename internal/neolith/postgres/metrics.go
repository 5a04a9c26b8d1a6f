package postgres

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

func registerMetrics(reg prometheus.Registerer, d *DB) {
	reg.MustRegister(
		gauge("gateway_postgres_up", "Whether PostgreSQL answered when it was asked last.", nil, func() float64 { return number(d.Up()) }),
		gauge("gateway_postgres_schema_ready", "Whether the gateway's own schema is up to date.", nil, func() float64 { return number(d.isMigrated()) }),
		gauge("gateway_postgres_connections_limit", "Most connections of this node to PostgreSQL (DATABASE_MAX_CONNS).", nil,
			func() float64 { return float64(d.Pool.Stat().MaxConns()) }),
		d.connections("used", (*pgxpool.Stat).AcquiredConns),
		d.connections("idle", (*pgxpool.Stat).IdleConns),
		d.connections("connecting", (*pgxpool.Stat).ConstructingConns),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "gateway_postgres_connection_waits_total",
			Help: "Queries that had to wait for a connection, because all were in use or a new one had to be made.",
		}, func() float64 { return float64(d.Pool.Stat().EmptyAcquireCount()) }),
	)
}

func (d *DB) connections(state string, count func(*pgxpool.Stat) int32) prometheus.GaugeFunc {
	return gauge("gateway_postgres_connections", "Connections of this node to PostgreSQL.",
		prometheus.Labels{"state": state}, func() float64 { return float64(count(d.Pool.Stat())) })
}

func gauge(name, help string, labels prometheus.Labels, value func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
}

func (d *DB) isMigrated() bool {
	select {
	case <-d.migrated:
		return true
	default:
		return false
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
