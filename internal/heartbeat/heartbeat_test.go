package heartbeat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

var receivedAt = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

func beat(session protocol.SessionID) heartbeat.Beat {
	return heartbeat.Beat{
		Orchestrator: "vp", Daemon: "daemon", Session: session, Status: protocol.StatusBusy,
		Metrics: []byte(`{"errors":3,"cpu":{"user":0.5},"startedAt":"2026-11-22T10:00:00Z"}`), ReceivedAt: receivedAt, Organization: "org",
	}
}

// connect returns a connection to a NATS server of the test's own.
func connect(t *testing.T) *nats.Conn {
	t.Helper()
	return testserver.Connect(t, testserver.NATS(t).ClientURL())
}

// run has the sender run until the returned function is called.
func run(t *testing.T, s *heartbeat.Sender) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func TestTheFormatOfBeatsStays(t *testing.T) {
	t.Parallel()
	b := beat("session")
	b.ReceivedAt = receivedAt.Truncate(time.Millisecond)
	data, err := json.Marshal(b)
	require.NoError(t, err)
	require.JSONEq(t, `{"orchestratorId":"vp","daemonId":"daemon","sessionId":"session","status":"busy",
		"report":{"errors":3,"cpu":{"user":0.5},"startedAt":"2026-11-22T10:00:00Z"},"receivedAt":"2026-11-22T10:00:00.123Z","organizationId":"org"}`, string(data))
}

// The versions before refuse a batch in which the metrics of one daemon are not all
// numbers, and write them under that name.
func TestBeatsOfTwoVersionsAreRead(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal([]heartbeat.Beat{beat("session")})
	require.NoError(t, err)
	var before []struct {
		Orchestrator protocol.OrchestratorID `json:"orchestratorId"`
		Status       protocol.Status         `json:"status"`
		Metrics      map[string]float64      `json:"metrics"`
	}
	require.NoError(t, json.Unmarshal(data, &before))
	require.Equal(t, protocol.StatusBusy, before[0].Status)

	beats, err := heartbeat.Decode([]byte(`[{"orchestratorId":"vp","daemonId":"d","metrics":{"errors":3}}]`))
	require.NoError(t, err)
	require.JSONEq(t, `{"errors":3}`, string(beats[0].Metrics))
}

func TestABatchMaySayNothingOfTheInterval(t *testing.T) {
	t.Parallel()
	for _, said := range []string{"", "soon", "0", "-1000", "1e3", "86400001", "9223372036854775807"} {
		m := nats.NewMsg(heartbeat.Subject(0))
		m.Header.Set("Heartbeat-Interval", said)
		require.Zero(t, heartbeat.IntervalOf(m), said)
	}
	require.Zero(t, heartbeat.IntervalOf(&nats.Msg{}))
}

func TestOfASessionTheNewestWithAllThatWasSaid(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	sub := testserver.Listen(t, conn, heartbeat.AllSubjects)
	s := heartbeat.NewSender(conn, 30*time.Second, slog.New(slog.DiscardHandler))
	first, second := beat("one"), beat("one")
	second.Status, second.Metrics = protocol.StatusIdle, nil
	s.Add(3, first)
	s.Add(3, second)
	run(t, s)()
	m, err := sub.NextMsg(testserver.Patience)
	require.NoError(t, err)
	p, err := heartbeat.PartitionOf(m.Subject)
	require.NoError(t, err)
	require.Equal(t, event.Partition(3), p)
	require.Equal(t, 30*time.Second, heartbeat.IntervalOf(m))
	got, err := heartbeat.Decode(m.Data)
	require.NoError(t, err)
	want := first
	want.Status, want.ReceivedAt = protocol.StatusIdle, receivedAt.Truncate(time.Millisecond)
	require.Equal(t, []heartbeat.Beat{want}, got)
}

func TestBatchesStayUnderTheLimitOfNATS(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	sub := testserver.Listen(t, conn, heartbeat.Subject(0))
	s := heartbeat.NewSender(conn, 30*time.Second, slog.New(slog.DiscardHandler))
	const sessions = 10_000
	for i := range sessions {
		s.Add(0, beat(protocol.SessionID(fmt.Sprintf("session-%d", i))))
	}
	run(t, s)()
	seen := make(map[protocol.SessionID]bool)
	batches := 0
	for len(seen) < sessions {
		m, err := sub.NextMsg(testserver.Patience)
		require.NoError(t, err)
		require.LessOrEqual(t, len(m.Data), 257<<10)
		beats, err := heartbeat.Decode(m.Data)
		require.NoError(t, err)
		for _, b := range beats {
			require.False(t, seen[b.Session], "sent twice")
			seen[b.Session] = true
		}
		batches++
	}
	require.Greater(t, batches, 1)
}

func TestWhatWaitsWhileNATSIsAwayIsSentAfterwards(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	back := make(chan struct{})
	conn := testserver.Connect(t, server.ClientURL(), nats.ReconnectHandler(func(*nats.Conn) { close(back) }))
	sub := testserver.Listen(t, conn, heartbeat.AllSubjects)
	server.Shutdown()
	require.Eventually(t, func() bool { return !conn.IsConnected() }, testserver.Patience, 5*time.Millisecond)
	s := heartbeat.NewSender(conn, 30*time.Second, slog.New(slog.DiscardHandler))
	current, old := beat("current"), beat("old")
	current.ReceivedAt, old.ReceivedAt = time.Now(), time.Now().Add(-heartbeat.Lifetime-time.Second)
	s.Add(1, old)
	s.Add(1, current)
	run(t, s)() // nobody is there to be sent to; what is old is forgotten
	server.Start()
	<-back
	run(t, s)()
	m, err := sub.NextMsg(testserver.Patience)
	require.NoError(t, err)
	got, err := heartbeat.Decode(m.Data)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, protocol.SessionID("current"), got[0].Session)
}

// A beat that only newer versions write costs itself and no other.
func TestABeatThatCannotBeReadCostsNoOther(t *testing.T) {
	t.Parallel()
	beats, err := heartbeat.Decode([]byte(`[{"orchestratorId":"o","daemonId":"a"},{"orchestratorId":["o"]},{"orchestratorId":"o","daemonId":"b"}]`))
	require.ErrorContains(t, err, "heartbeat 1 of 3")
	require.Len(t, beats, 2)
	require.Equal(t, protocol.DaemonID("b"), beats[1].Daemon)
}

func TestWhatNoEdgeWritesIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, `{}`, `[{"orchestratorId":"","daemonId":"d"}]`, `[{"orchestratorId":"o"}]`, `[{"receivedAt":"soon"}]`} {
		_, err := heartbeat.Decode([]byte(text))
		require.Error(t, err, text)
	}
	for _, subject := range []string{"daemon.heartbeats.", "daemon.heartbeats.x", "daemon.heartbeats.-1", "daemon.events.1.o"} {
		_, err := heartbeat.PartitionOf(subject)
		require.Error(t, err, subject)
	}
}
