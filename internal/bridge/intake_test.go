package bridge

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
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
	answer, err := http.DefaultClient.Do(b.request(strings.NewReader("[" + strings.Join(events, ",") + "]")))
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

func (b *bridge) request(body io.Reader) *http.Request {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "http://"+b.IntakeAddr().String()+"/v1/events", body)
	require.NoError(b.t, err)
	request.Header.Set("Authorization", "Bearer "+apiKey)
	request.Header.Set("Content-Type", "application/json")
	return request
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

// TestEventsOverHTTPStandBehindThoseThatWait (invariant 2): by whatever way these
// have come.
func TestEventsOverHTTPStandBehindThoseThatWait(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	db := testserver.Postgres(t)
	neolith(t, db, 0)
	cfg := withIntake(t, s.withDatabase(db))
	b := s.start(cfg).ready()
	publish(t, s.publisher(), "daemon:events", eventsOf("user0", 0, 20)...)
	s.awaitUnresolved(map[string]int{"user0": 20})
	_, statuses := b.post(eventsOf("user0", 20, 40)...)
	require.Equal(t, slices.Repeat([]string{"waiting"}, 20), statuses)
	addOrchestrators(t, db, 0, 1)
	code, _ := b.post(eventsOf("user0", 40, 60)...) // while they are released
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, eventIDs("user0", 0, 60), s.awaitStored(cfg, "vp0", 60))
}

// TestAStopAnswersTheRequestsInProgress: with what is in the log by then.
func TestAStopAnswersTheRequestsInProgress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := withIntake(t, s.config())
	b := s.start(cfg).ready()
	body, sending := io.Pipe()
	request := b.request(body)
	request.Header.Set("Expect", "100-continue")
	reading := make(chan struct{}) // the intake reads the body
	request = request.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reading) }}))
	answered := make(chan string, 1)
	go func() {
		defer http.DefaultClient.CloseIdleConnections()
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			answered <- err.Error()
			return
		}
		_ = answer.Body.Close()
		answered <- answer.Status
	}()
	<-reading
	b.stop()
	eventually(t, func() bool { return b.link.state().problem == "stopped" }, "nothing more is heard")
	_, err := io.WriteString(sending, eventJSON("vp", 1))
	require.NoError(t, err)
	require.NoError(t, sending.Close())
	require.Equal(t, "200 OK", <-answered)
	require.NoError(t, b.wait())
	require.Equal(t, eventIDs("vp", 1, 2), ids(s.stored(cfg.Log.Partitions)["vp"]))
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
