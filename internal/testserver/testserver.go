// Package testserver starts the real servers that tests run against: NATS with
// JetStream inside the test process or as a cluster of processes, and Redis as
// a process. Each listens on a random port of the loopback interface, keeps its
// data in a directory of the test, and ends with the test.
//
// It is for tests only; nothing in the programs imports it.
package testserver

import (
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
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
