package gatewayctl

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Whoever may connect or publish chooses ids, and operators look at them.
func TestWhatOthersHaveWrittenSteersNoTerminal(t *testing.T) {
	t.Parallel()
	const hostile = "x\x1b]0;title\a\x1b[2J\u009b1A\u202e\f\v\rx\xff"
	const forging = hostile + "\nedge\tforged"
	letter := deadLetter{Number: 1}
	letter.DeadLetterRecord = eventlog.DeadLetterRecord{Orchestrator: forging, EventID: forging, Daemon: protocol.DaemonID(forging), Detail: forging, Body: "x\x1b[2J\f\u009b1A"}
	sum := sha256.Sum256([]byte(letter.Body))
	letter.BodyBytes, letter.BodySHA256 = len(letter.Body), hex.EncodeToString(sum[:])
	for name, test := range map[string]struct {
		print func(io.Writer)
		lines int
	}{
		"connections": {connections{Total: 1, Connections: []connection{{forging, operation.Connection{Daemon: forging, Orchestrator: forging, Subscriptions: []string{forging}}}}}.print, 2},
		"a letter":    {letter.print, 8 + 2},
		"an orchestrator": {orchestrator{
			Orchestrator: "orch", Daemons: []daemon{{Daemon: forging, Words: forging}}, Awaited: []string{forging},
		}.print, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			p := &program{out: &out, format: formatTable}
			require.NoError(t, p.show(nil, test.print))
			for _, r := range out.String() {
				require.True(t, r == '\n' || strconv.IsPrint(r), "%q", out.String())
			}
			require.Equal(t, test.lines, strings.Count(out.String(), "\n"), "%s", out.String())
			require.NotContains(t, out.String(), "\nedge")
		})
	}

	var out bytes.Buffer
	v := &visitor{program: &program{out: &out}}
	require.NoError(t, v.event(t.Context(), protocol.Event{EventID: forging, EventType: "message.received", Data: json.RawMessage(hostile)}))
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	require.NotContains(t, out.String(), "\x1b")
}
