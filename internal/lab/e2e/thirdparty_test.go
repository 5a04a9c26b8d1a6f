package e2e_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// line is one report of testdata/third_party.py.
type line struct {
	Scenario string  `json:"scenario"`
	Step     string  `json:"step"`
	Sent     string  `json:"sent"` // id of the message that is answered
	Text     bool    `json:"text"`
	Message  message `json:"message"`
	Close    *int    `json:"close"`
	Reason   string  `json:"reason"`
}

// message is a frame of the gateway as any JSON library sees it.
type message struct {
	Type      string         `json:"type"`
	ID        string         `json:"id"`
	Timestamp string         `json:"timestamp"`
	Payload   map[string]any `json:"payload"`
}

const (
	thirdPartyOrchestrator = protocol.OrchestratorID("vp_third_party")
	crowdOrchestrator      = protocol.OrchestratorID("vp_crowd")
	connectionLimit        = 2
)

func TestThirdPartyClient(t *testing.T) {
	t.Parallel()
	script := testserver.Python(t, "testdata/third_party.py")
	w := startWorld(t, with(map[string]string{"WS_AUTH_TIMEOUT": "15000", "WS_MAX_CONNECTIONS_PER_VP": fmt.Sprint(connectionLimit)}))
	lines := w.runPython(script)

	w.checkTransport()
	for scenario, check := range map[string]func(*testing.T, []line){
		"conversation": checkConversation,
		"resumption":   checkResumption,
		"forged":       refusedWith("AUTH_FAILED", 4001),
		"unsigned":     refusedWith("AUTH_FAILED", 4001),
		"refresh":      refusedWith("AUTH_FAILED", 4001),
		"stranger":     refusedWith("AUTH_FAILED", 4001),
		"expired":      refusedWith("TOKEN_EXPIRED", 4003),
		"silence":      func(t *testing.T, lines []line) { requireClose(t, lines, "closed", 4002) },
		"binary":       func(t *testing.T, lines []line) { requireClose(t, lines, "closed", 1003) },
		"oversize":     func(t *testing.T, lines []line) { requireClose(t, lines, "closed", 1009) },
		"successor":    checkSuccessor,
		"crowd":        checkCrowd,
	} {
		t.Run(scenario, func(t *testing.T) { check(t, lines[scenario]) })
	}
}

// runPython runs the script, publishes an event whenever it waits for one, and
// returns what it reported by scenario.
func (w *world) runPython(cmd *exec.Cmd) map[string][]line {
	t := w.t
	cmd.Stdin = strings.NewReader(w.parameters() + "\n")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := map[string][]line{}
	reports := bufio.NewScanner(out)
	published := 0
	for reports.Scan() {
		var l line
		require.NoError(t, json.Unmarshal(reports.Bytes(), &l), reports.Text())
		lines[l.Scenario] = append(lines[l.Scenario], l)
		if l.Step == "publish" {
			require.NoError(t, w.Feed.Publish(w.ctx, traffic.OnRedis, thirdPartyEvents[published]))
			published++
		}
	}
	require.NoError(t, reports.Err())
	require.NoError(t, cmd.Wait())
	require.NotEmpty(t, lines["all"], "the script did not come to its end")
	require.Equal(t, len(thirdPartyEvents), published)
	return lines
}

var thirdPartyEvents = []event.Event{
	{
		ID: "event_1", Type: "message.received", OrchestratorID: thirdPartyOrchestrator, RequiresAck: true, Priority: 3,
		ChannelID: "c1", WorkspaceID: "w1", Timestamp: "2026-11-22T10:00:00.000Z", Payload: json.RawMessage(`{"content":"grüße 😀","n":1.50}`),
	},
	{ID: "event_2", Type: "call.started", OrchestratorID: thirdPartyOrchestrator, RequiresAck: true, Payload: json.RawMessage(`{}`)},
	{ID: "event_3", Type: "system.maintenance", OrchestratorID: thirdPartyOrchestrator, Payload: json.RawMessage(`{}`)},
}

// parameters is what the script is told: where to connect, and as whom.
func (w *world) parameters() string {
	auth := func(orchestrator protocol.OrchestratorID, daemon, token string) map[string]any {
		return map[string]any{"accessToken": token, "daemonId": daemon, "orchestratorId": orchestrator}
	}
	self := thirdPartyOrchestrator
	daemons := map[string]any{
		"first":    auth(self, "d1", sign(w.t, self, "d1", nil)),
		"other":    auth("vp_other", "d2", sign(w.t, "vp_other", "d2", nil)),
		"forged":   auth(self, "d1", signWith(w.t, "another secret of thirty-two bytes or more", self, "d1", nil)),
		"expired":  auth(self, "d1", sign(w.t, self, "d1", jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()})),
		"refresh":  auth(self, "d1", sign(w.t, self, "d1", jwt.MapClaims{"type": "refresh"})),
		"unsigned": auth(self, "d1", unsigned(w.t, self, "d1")),
		"stranger": auth(self, "d1", sign(w.t, "vp_other", "d1", nil)),
	}
	for i := range connectionLimit + 1 {
		id := fmt.Sprintf("crowd-%d", i)
		daemons[id] = auth(crowdOrchestrator, id, sign(w.t, crowdOrchestrator, id, nil))
	}
	text, err := json.Marshal(map[string]any{
		"url": w.Edges[0].URL, "alias": strings.Replace(w.Edges[0].URL, "/daemon/ws", "/api/daemon/ws", 1),
		"oversize": 70 << 10, "limit": connectionLimit, "daemons": daemons,
	})
	require.NoError(w.t, err)
	return string(text)
}

// claims has the shape of the integration guide, apart from the changes.
func claims(orchestrator protocol.OrchestratorID, daemon string, changes jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": orchestrator, "daemonId": daemon, "type": "access", "scopes": []string{"*"}, "jti": "token-1",
		"iss": "neolith-platform", "aud": "neolith-api", "organizationId": "o1", "workspaceId": "w1",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		c[name] = value
	}
	return c
}

func sign(t *testing.T, orchestrator protocol.OrchestratorID, daemon string, changes jwt.MapClaims) string {
	t.Helper()
	return signWith(t, cluster.Secret, orchestrator, daemon, changes)
}

func signWith(t *testing.T, secret string, orchestrator protocol.OrchestratorID, daemon string, changes jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(orchestrator, daemon, changes)).SignedString([]byte(secret))
	require.NoError(t, err)
	return token
}

// unsigned is a token that claims to need no signature.
func unsigned(t *testing.T, orchestrator protocol.OrchestratorID, daemon string) string {
	t.Helper()
	body, err := json.Marshal(claims(orchestrator, daemon, nil))
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(body) + "."
}

// checkTransport looks at what the paths answer without an upgrade.
func (w *world) checkTransport() {
	for _, path := range []string{"/daemon/ws", "/api/daemon/ws"} {
		url := "http" + strings.TrimPrefix(strings.TrimSuffix(w.Edges[0].URL, "/daemon/ws"), "ws") + path
		require.Equal(w.t, http.StatusUpgradeRequired, w.status(url))
	}
}
