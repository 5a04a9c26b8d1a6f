package testserver

import (
	"os"
	"os/exec"
	"testing"
)

// Python returns a run of Python, which is ended with the test, that has the package
// websockets: a WebSocket client that is not ours.
func Python(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import websockets").Run() == nil {
			return run(t, python, args...)
		}
	}
	t.Fatal("this test needs a python3 with the package websockets: install it " +
		"(Debian and Ubuntu: apt-get install python3-websockets; elsewhere: pip install websockets)")
	return nil
}

// NodePath is where Debian and npm have packages, beside what NODE_PATH says.
const NodePath = "/usr/share/nodejs:/usr/lib/node_modules:/usr/local/lib/node_modules"

// Node returns a run of Node, which is ended with the test, that has the package ws:
// what daemons and the servers before us were written with.
func Node(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if out, err := run(t, "node", "-e", `if (!require("ws").WebSocketServer) throw "ws is older than 8"`).CombinedOutput(); err != nil {
		t.Fatalf("this test needs Node with the package ws: install it "+
			"(Debian and Ubuntu: apt-get install nodejs node-ws; elsewhere: npm install -g ws): %v\n%s", err, out)
	}
	return run(t, "node", args...)
}

func run(t testing.TB, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+os.Getenv("NODE_PATH")+":"+NodePath)
	return cmd
}
