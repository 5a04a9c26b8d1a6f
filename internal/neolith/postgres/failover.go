package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errReadOnly is what a server is no use for: after a failover the old primary
// answers, and connections stay on it.
var errReadOnly = errors.New("the server is read-only: a standby, or what was the primary before a failover")

// useless are the SQLSTATEs of a connection that answers and cannot work: its
// server is read-only, shuts down, starts or recovers.
var useless = []string{"25006", "57P01", "57P02", "57P03", "57P04"}

// isUseless reports whether the connection that gave the error leads to the wrong
// server, or to none.
func isUseless(err error) bool {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return errors.Is(err, errReadOnly)
	}
	return slices.Contains(useless, said.Code) || strings.HasPrefix(said.Code, "08")
}

// failover gives up all connections when one turns out to be useless: those that
// were made before a failover lead where it does, and new ones find the primary.
// It is the pool's tracer, because every query passes there.
type failover struct {
	giveUp func()
}

func (f *failover) note(err error) {
	if isUseless(err) {
		f.giveUp()
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (f *failover) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (f *failover) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	f.note(data.Err)
}

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (f *failover) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return ctx
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (f *failover) TraceCopyFromEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceCopyFromEndData) {
	f.note(data.Err)
}

// ask asks the server whether it can be written to, unless DATABASE_URL says that
// it need not.
func (d *DB) ask(ctx context.Context) error {
	var readOnly bool
	err := d.Pool.QueryRow(ctx, `select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean`).Scan(&readOnly)
	if err == nil && readOnly && d.writes {
		d.Pool.Reset()
		err = errReadOnly
	}
	return err
}
