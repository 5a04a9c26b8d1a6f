package postgres

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

func registerMetrics(reg prometheus.Registerer, d *DB) {
	metric.GaugeFunc(reg, "gateway_postgres_up", "Whether PostgreSQL answered when it was asked last.", nil,
		func() float64 { return metric.Truth(d.Up()) })
	metric.GaugeFunc(reg, "gateway_postgres_schema_ready", "Whether the gateway's own schema is up to date.", nil,
		func() float64 { return metric.Truth(d.isMigrated()) })
	metric.GaugeFunc(reg, "gateway_postgres_connections_limit", "Most connections of this node to PostgreSQL (DATABASE_MAX_CONNS).", nil,
		func() float64 { return float64(d.Pool.Stat().MaxConns()) })
	for state, count := range map[string]func(*pgxpool.Stat) int32{
		"used":       (*pgxpool.Stat).AcquiredConns,
		"idle":       (*pgxpool.Stat).IdleConns,
		"connecting": (*pgxpool.Stat).ConstructingConns,
	} {
		metric.GaugeFunc(reg, "gateway_postgres_connections", "Connections of this node to PostgreSQL.", prometheus.Labels{"state": state},
			func() float64 { return float64(count(d.Pool.Stat())) })
	}
	metric.CounterFunc(reg, "gateway_postgres_connection_waits_total",
		"Queries that had to wait for a connection, because all were in use or a new one had to be made.",
		func() float64 { return float64(d.Pool.Stat().EmptyAcquireCount()) })
}

func (d *DB) isMigrated() bool {
	select {
	case <-d.migrated:
		return true
	default:
		return false
	}
}
