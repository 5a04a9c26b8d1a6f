// Package testserver starts the real servers that tests run against: NATS with
// JetStream inside the test process or as a cluster of processes, Redis as a
// process, and PostgreSQL, with PgBouncer before it where a test asks for one,
// as processes. Each listens on a random port of the loopback interface, keeps
// its data in a directory of its own, and ends with the test (the PostgreSQL
// server that tests share, with the last of them).
//
// It is for tests only; nothing in the programs imports it.
package testserver

import (
	"fmt"
	"net"
	"strconv"
	"testing"
)

const loopback = "127.0.0.1"

// freePort reserves a port for a process that cannot tell which it chose. The
// port is free when the function returns; the caller tries again if somebody
// else was quicker.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := unusedPort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// unusedPort is freePort for servers that outlive a test.
func unusedPort() (int, error) {
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
