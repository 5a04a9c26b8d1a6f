package bridge

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func report(orchestrator protocol.OrchestratorID, daemon protocol.DaemonID, named bool) heartbeat.Beat {
	return heartbeat.Beat{Orchestrator: orchestrator, Daemon: daemon, Session: "s", ReceivedAt: time.Now(), Opened: true, Named: named}
}

// A daemon that is connected is found though Neolith keeps no session of it, or
// one that is out of date.
func TestAConnectedDaemonsOrchestratorIsKnown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.publisher()
	require.NoError(t, client.Set(t.Context(), "daemon:session:moved", `{"orchestratorId":"vp-of-before"}`, 0).Err())
	a := s.start(s.draining()).ready()
	data, err := json.Marshal([]heartbeat.Beat{report("vp", "worker-7", true), report("vp", "moved", true)})
	require.NoError(t, err)
	conn := s.nats.JetStream().Conn()
	eventually(t, func() bool { // a bridge that has just started may not hear the first
		require.NoError(t, conn.Publish(heartbeat.Subject(0), data))
		orchestrator, _ := a.pump.connectedDaemons.find("worker-7", time.Now())
		return orchestrator != ""
	}, "the bridge hears who is connected")

	publish(t, client, "daemon:worker-7:events", eventJSON("a-channel", 0))
	publish(t, client, "daemon:moved:events", eventJSON("a-channel", 1))
	a.settled(2)
	push(t, client, "worker-7", eventJSON("a-channel", 2))
	s.awaitEmpty("worker-7")
	stored := s.stored(a.cfg.Log.Partitions)
	require.ElementsMatch(t, eventIDs("a-channel", 0, 3), ids(stored["vp"]))
	require.Empty(t, s.deadLetters())
}

// Invariant 5: what an edge has said of a daemon is forgotten as soon as another
// orchestrator's daemon has its id.
func TestADaemonThatHasMovedIsNotThatOfBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.publisher()
	a := s.start(s.config()).ready()
	a.pump.connectedDaemons.note([]heartbeat.Beat{report("before", "worker", true)}, time.Now())
	publish(t, client, "daemon:worker:events", eventJSON("a-channel", 0))
	a.settled(1)
	require.NoError(t, client.Set(t.Context(), "daemon:session:worker", `{"orchestratorId":"after"}`, 0).Err())
	a.pump.connectedDaemons.note([]heartbeat.Beat{report("after", "worker", true)}, time.Now())
	publish(t, client, "daemon:worker:events", eventJSON("a-channel", 1))
	a.settled(2)
	stored := s.stored(a.cfg.Log.Partitions)
	require.Equal(t, eventIDs("a-channel", 0, 1), ids(stored["before"]))
	require.Equal(t, eventIDs("a-channel", 1, 2), ids(stored["after"]))
}

func TestWhoseADaemonIs(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	const half = heartbeat.Lifetime / 2
	type said struct {
		after time.Duration
		beat  heartbeat.Beat
	}
	for name, tt := range map[string]struct {
		said []said
		at   time.Duration
		want protocol.OrchestratorID // empty: nobody knows
	}{
		"nobody's":                  {at: 0},
		"connected":                 {[]said{{0, report("vp", "d", true)}}, half, "vp"},
		"silent for too long":       {[]said{{0, report("vp", "d", true)}}, 2 * half, ""},
		"named by itself alone":     {[]said{{0, report("vp", "d", false)}}, 0, ""},
		"of two orchestrators":      {[]said{{0, report("vp", "d", true)}, {half, report("other", "d", true)}}, half, ""},
		"of the other, and no more": {[]said{{0, report("vp", "d", true)}, {half, report("other", "d", true)}, {2 * half, report("other", "d", true)}}, 3 * half, "other"},
		"still of two": {[]said{
			{0, report("vp", "d", true)}, {half, report("other", "d", true)}, {2 * half, report("vp", "d", true)}, {3 * half, report("other", "d", true)},
		}, 4 * half, ""},
		"moved": {[]said{{0, report("vp", "d", true)}, {2 * half, report("other", "d", true)}}, 2 * half, "other"},
	} {
		c := newConnectedDaemons()
		for _, say := range tt.said {
			c.note([]heartbeat.Beat{say.beat}, start.Add(say.after))
		}
		got, _ := c.find("d", start.Add(tt.at))
		require.Equal(t, tt.want, got, name)
	}
}

// Invariant 4: what is remembered is bounded, and room is made of those that are
// gone.
func TestConnectedDaemonsAreBounded(t *testing.T) {
	t.Parallel()
	c, now := newConnectedDaemons(), time.Unix(1000, 0)
	beats := make([]heartbeat.Beat, maxConnectedDaemons+1)
	for i := range beats {
		beats[i] = report("vp", protocol.DaemonID(fmt.Sprintf("d-%d", i)), true)
	}
	c.note(beats, now)
	require.Len(t, c.holders, maxConnectedDaemons)
	later := now.Add(heartbeat.Lifetime + time.Second)
	c.note([]heartbeat.Beat{report("vp", "late", true)}, later)
	require.Len(t, c.holders, 1)
	c.note([]heartbeat.Beat{report("vp", "daemon_session_vp_17", true)}, later)
	require.Len(t, c.holders, 1, "an id that says whose it is need not be remembered")
}
