// Package testserver starts the real servers that tests run against: NATS with
// JetStream inside the test process or as a cluster of processes, Redis as a
// process, and PostgreSQL, with PgBouncer in front of it where a test asks for
// one, as processes. Each listens on a random port of the loopback interface,
// keeps its data in a directory of its own, and ends with the test (the
// PostgreSQL server that tests share, with the last of them).
//
// It is for tests only; nothing in the programs imports it.
package testserver

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

const loopback = process.Loopback

// Port reserves a port for a server.
func Port(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// freePort is Port for servers that outlive a test.
func freePort() (int, error) {
	address, err := process.Reserve(loopback)
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// start starts a process and waits until it is ready.
func start(p *process.Process, ready func() error) error {
	if err := p.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return p.Await(ctx, ready)
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
