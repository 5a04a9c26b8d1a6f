package bridge

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

const apiKey = "a key of the tests"

// withIntake is a configuration that also takes events over HTTP.
func withIntake(t *testing.T, cfg Config) Config {
	t.Helper()
	cfg.Intake.HTTPAddr = "127.0.0.1:0"
	cfg.Intake.APIKeysFile = filepath.Join(t.TempDir(), "api-keys")
	line := fmt.Sprintf("tests %x\n", sha256.Sum256([]byte(apiKey)))
	require.NoError(t, os.WriteFile(cfg.Intake.APIKeysFile, []byte(line), 0o600))
	return cfg
}

// post sends events to the bridge's intake and returns the status of each.
func (b *bridge) post(events ...string) (code int, statuses []string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost,
		"http://"+b.IntakeAddr().String()+"/v1/events", strings.NewReader("["+strings.Join(events, ",")+"]"))
	require.NoError(b.t, err)
	request.Header.Set("Authorization", "Bearer "+apiKey)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(b.t, err)
	defer func() { _ = answer.Body.Close() }()
	defer http.DefaultClient.CloseIdleConnections()
	var body struct{ Results []struct{ Status string } }
	require.NoError(b.t, json.NewDecoder(answer.Body).Decode(&body))
	for _, r := range body.Results {
		statuses = append(statuses, r.Status)
	}
	return answer.StatusCode, statuses
}

func TestEventsOverHTTPAndRedisMeetInTheLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := withIntake(t, s.config())
	b := s.start(cfg).ready()
	publish(t, s.publisher(), "daemon:events", eventJSON("vp", 1))
	s.awaitStored(cfg, "vp", 1)
	code, statuses := b.post(eventJSON("vp", 1), eventJSON("vp", 2))
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, []string{"duplicate", "stored"}, statuses)
	require.Equal(t, eventIDs("vp", 1, 3), s.awaitStored(cfg, "vp", 2))
}

func TestEventsOverHTTPGoToTheOrchestratorThatNeolithKnows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	db := testserver.Postgres(t)
	neolith(t, db, 1)
	cfg := withIntake(t, s.withDatabase(db))
	b := s.start(cfg).ready()
	code, statuses := b.post(eventJSON("user0", 1), eventJSON("user1", 1))
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, []string{"stored", "waiting"}, statuses)
	s.awaitStored(cfg, "vp0", 1)
	addOrchestrators(t, db, 1, 2)
	s.awaitStored(cfg, "vp1", 1)
}

func TestWithoutNATSEventsOverHTTPAreToBeSentAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.nats.Shutdown()
	b := s.start(withIntake(t, s.config()))
	code, _ := b.post(eventJSON("vp", 1))
	require.Equal(t, http.StatusServiceUnavailable, code)
	s.nats.Start()
	b.ready()
	code, statuses := b.post(eventJSON("vp", 1))
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, []string{"stored"}, statuses)
}

func TestWithoutKeysThereIsNoIntake(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.Nil(t, s.start(s.config()).IntakeAddr())
}
