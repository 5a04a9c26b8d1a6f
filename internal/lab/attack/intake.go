package attack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
)

// dialIntake connects to the intake, without a handshake. The connection is closed
// when ctx ends.
func (c *client) dialIntake(ctx context.Context) (conn net.Conn, done func(), err error) {
	if conn, err = c.dial(ctx, c.Intake, true); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, func() {
		stop()
		_ = conn.Close()
	}, nil
}

// trusting speaks TLS with whoever is there.
func trusting(conn net.Conn) *tls.Conn {
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
}

// handshakes makes a handshake and leaves.
func handshakes(ctx context.Context, c *client) error {
	conn, done, err := c.dialIntake(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := trusting(conn).HandshakeContext(ctx); err != nil {
		return err
	}
	c.record.count(func(t *Tally) { t.Opened++ })
	return errDone
}

// halfHandshake begins a handshake and never ends it.
func halfHandshake(ctx context.Context, c *client) error {
	conn, done, err := c.dialIntake(ctx)
	if err != nil {
		return err
	}
	defer done()
	const handshake, version = 22, 3 // how a record of TLS begins
	if _, err := conn.Write([]byte{handshake, version}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return errors.Join(err, ended(abnormal))
}

// drips declares a body as large as may be, and sends a byte of it.
func drips(ctx context.Context, c *client) error {
	conn, done, err := c.dialIntake(ctx)
	if err != nil {
		return err
	}
	defer done()
	secured := trusting(conn)
	_, err = fmt.Fprintf(secured, "POST /v1/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n[", c.APIKey, 16<<20)
	if err != nil {
		return err
	}
	c.record.count(func(t *Tally) { t.Opened++ })
	return c.answered(secured)
}
