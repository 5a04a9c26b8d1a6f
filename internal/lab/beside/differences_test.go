package beside_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// differences are the rows of the table in docs/protocol.md, each with the questions,
// or what clients do, to which the two have other answers.
var differences = map[string][]string{
	"an empty line before the request, two spaces or HTTP/0.9 or 2.0 in its first line": {
		"an empty line before it", "two empty lines before it", "GET  /daemon/ws HTTP/1.1", "GET /daemon/ws  HTTP/1.1", "GET /daemon/ws", "GET /daemon/ws HTTP/2.0",
	},
	"HTTP/1.2, lines that end with a line feed alone, folded headers, an escape in the path": {
		"GET /daemon/ws HTTP/1.2", "line feeds alone", `"X-Folded: a\r\n b"`, "GET /daemon/%77s HTTP/1.1",
	},
	"no `Host`, two, or what is no host": {"no Host", "two headers Host", "Host: a b", "Host: a/b", "Host: ä"},
	"headers over 8 KiB":                 {"a header of 12 KB"},
	"`Upgrade` to something else":        {"Upgrade: websocket/13", "Upgrade: h2c", "Upgrade: TLS/1.2", "Upgrade: websockets"},
	"`Upgrade: h2c, websocket`; that header, or the version, twice": {
		"Upgrade: websocket, h2c", "Upgrade: h2c, websocket", "two headers Upgrade", "two headers Sec-WebSocket-Version",
	},
	"a list of subprotocols that is malformed": {
		"Sec-WebSocket-Protocol: a,,b", "Sec-WebSocket-Protocol: ,a", "Sec-WebSocket-Protocol: a,", "Sec-WebSocket-Protocol: a b", "Sec-WebSocket-Protocol: a, a",
		`Sec-WebSocket-Protocol: "a"`, "Sec-WebSocket-Protocol: a;b", "Sec-WebSocket-Protocol: ä", "an empty Sec-WebSocket-Protocol",
	},
	"another method": {"get /daemon/ws HTTP/1.1", "CONNECT /daemon/ws HTTP/1.1"},
	"another path": {
		"GET /daemon/ws/ HTTP/1.1", "GET //daemon/ws HTTP/1.1", "GET /daemon//ws HTTP/1.1", "GET /daemon/../daemon/ws HTTP/1.1", "GET /daemon%2Fws HTTP/1.1",
		"GET /DAEMON/WS HTTP/1.1", "GET /daemon/ws#x HTTP/1.1", "GET /daemon/ws;v=1 HTTP/1.1", "GET /daemon HTTP/1.1", "GET / HTTP/1.1",
		"Node: another path", "Node: a slash at the end",
	},
	"after a refusal": {"another request after a refusal"},
	"a binary message": {
		"a binary message", "a binary message in fragments", "an empty binary message", "Node: a binary message", "Go: a binary message", "Python: a binary message",
	},
	"a control frame whose length has more bytes than it needs": {
		"a ping with its length in two bytes", "a ping with its length in eight bytes", "a close with its length in two bytes",
	},
	"a length of 2^63 or more":           {"a length of 2^63"},
	"a close reason that is not UTF-8":   {"a close with a reason that is not UTF-8"},
	"what may not be sent":               {"Node: one byte more", "Python: one byte more"},
	"a length over the limit, announced": nil, // the same as soon as that much has come
	"after a close code of its own":      nil, // the client of this test answers
	"a message right before the close":   nil, // which of the two is faster
}

// page is where they are told.
var page = filepath.Join("..", "..", "..", "docs", "protocol.md")

const heading = "### What Node's `ws` does otherwise"

// told are the first cells of the rows of that table.
func told(t *testing.T) (rows []string) {
	t.Helper()
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(content), heading)
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && len(cells) == 3 {
			rows = append(rows, strings.TrimPrefix(cells[0], "| "))
		}
	}
	return rows[1:] // without the heads
}

func TestWhatDiffersIsTold(t *testing.T) {
	t.Parallel()
	rows := told(t)
	require.NotEmpty(t, rows)
	require.ElementsMatch(t, slices.Collect(maps.Keys(differences)), rows, "the rows in docs/protocol.md, and what is asked for each")
}

// rowOf returns the row that tells of a difference.
func rowOf(name string) string {
	for row, names := range differences {
		if slices.Contains(names, name) {
			return row
		}
	}
	return ""
}

// compare requires the same of both, or that the difference is told.
func compare(t *testing.T, name, byNode, byEdge string) {
	t.Helper()
	switch row := rowOf(name); {
	case byNode != byEdge && row == "":
		t.Errorf("%s:\n\tws      %s\n\tan edge %s", name, byNode, byEdge)
	case byNode == byEdge && row != "":
		t.Errorf("%s is the same with both, so that docs/protocol.md is wrong (%s):\n\t%s", name, row, byEdge)
	case byNode != byEdge:
		t.Logf("%s (%s):\n\tws      %s\n\tan edge %s", name, row, byNode, byEdge)
	}
}

// Reports: amphp/http-server#70, ninenines/cowboy#74, Links2004/arduinoWebSockets#6,
// tarasko/picows#115, qicosmos/cinatra#578, nori0428/mod_websocket#48, websockets/ws#1140, #1191,
// #1592, TooTallNate/Java-WebSocket#1093, websockets/ws#2292, jetty/jetty.project#3159,
// python-websockets/websockets#1720, ballerina-platform/ballerina-lang#12696,
// ninenines/cowlib#159, freeunitorg/freeunit#411, dotnet/runtime#60171, #69684,
// dotnet/corefx#33239, machinezone/IXWebSocket#166.
func TestAnEdgeAnswersAsNodesWSDoes(t *testing.T) {
	t.Parallel()
	edge, node := startEdge(t), startNode(t)
	all := slices.Concat(handshakes(), conversations())
	names := map[string]bool{}
	for _, q := range all {
		require.False(t, names[q.name], q.name)
		names[q.name] = true
		compare(t, q.name, asked(t, node, q), asked(t, edge, q))
	}
}

// The clients of other languages have their own minds about what they send, and
// about what they accept.
// Reports: websockets/ws#1140, #1191, #1592, TooTallNate/Java-WebSocket#1093, websockets/ws#2292.
func TestClientsFindNoDifferenceToNodesWS(t *testing.T) {
	t.Parallel()
	edge, reference := startEdge(t), startNode(t)
	for client, run := range map[string]func(*testing.T, string) []string{
		"Node": func(t *testing.T, host string) []string {
			return lines(t, testserver.Node(t, "testdata/client.js", address(host)))
		},
		"Python": func(t *testing.T, host string) []string {
			return lines(t, testserver.Python(t, "testdata/client.py", address(host)))
		},
		"Go": goClient,
	} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			byEdge, byNode := run(t, edge), run(t, reference)
			require.Len(t, byEdge, len(byNode))
			for i, line := range byNode {
				var l struct{ Name string }
				require.NoError(t, json.Unmarshal([]byte(line), &l))
				compare(t, fmt.Sprintf("%s: %s", client, l.Name), line, byEdge[i])
			}
		})
	}
}

// lines is what a script prints.
func lines(t *testing.T, cmd *exec.Cmd) (all []string) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		all = append(all, s.Text())
	}
	require.NotEmpty(t, all)
	return all
}
