package session_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func bodyOf(orchestrator, daemon, payload string) []byte {
	return fmt.Appendf(nil, `{"id":"e","type":"message.received","orchestratorId":%q,"daemonId":%q,"payload": %s,"requiresAck":true}`,
		orchestrator, daemon, payload)
}

// A window of 1 MiB took 2 MiB, since the parsed payload is a copy of what the
// body has (invariant 4).
func TestWaitingEventIsHeldOnceAndApartFromItsBatch(t *testing.T) {
	t.Parallel()
	const payload = `{"a": [1, 2]}`
	batch := bodyOf("o", "", payload)
	candidate := session.NewCandidate(eventlog.Message{Token: "o", Sequence: 11, Body: batch})
	var held [][]byte
	for range 2 {
		b := live(t, config())
		b.s.Forwarded(epoch, candidate, 10, b.now)
		b.take()
		held = append(held, b.sent[0].Event.Payload)
		b.write()
		for range config().MaxVainTries {
			b.after(config().AckTimeout)
			b.write()
		}
		require.NotNil(t, b.dead)
		i := bytes.Index(b.dead.Body, held[0])
		require.Same(t, &b.dead.Body[i], &held[0][0], "the payload is a part of the body")
	}
	require.Same(t, &held[0][0], &held[1][0], "the connections of an orchestrator hold one copy")
	require.Equal(t, len(held[0]), cap(held[0]), "whoever appends does not write into the body")
	clear(batch)
	require.Equal(t, payload, string(held[0]), "the batch may be forgotten")
}

func TestEachSessionJudgesASharedEventForItself(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body []byte
		want map[protocol.DaemonID]session.FilterReason // "": sent
	}{
		"for all":                 {bodyOf("o", "", "{}"), map[protocol.DaemonID]session.FilterReason{"d": "", "e": ""}},
		"for one daemon":          {bodyOf("o", "e", "{}"), map[protocol.DaemonID]session.FilterReason{"d": session.FilteredAddressee, "e": ""}},
		"invalid":                 {bodyOf("o", "", "[]"), map[protocol.DaemonID]session.FilterReason{"d": session.FilteredInvalid, "e": session.FilteredInvalid}},
		"under another's subject": {bodyOf("other", "", "{}"), map[protocol.DaemonID]session.FilterReason{"d": session.FilteredInvalid, "e": session.FilteredInvalid}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			candidate := session.NewCandidate(eventlog.Message{Token: "o", Sequence: 11, Body: test.body})
			for daemon, want := range test.want {
				cfg := config()
				cfg.Daemon = daemon
				b := live(t, cfg)
				b.s.Forwarded(epoch, candidate, 10, b.now)
				b.take()
				if want == "" {
					require.Len(t, b.sent, 1, daemon)
					continue
				}
				require.Empty(t, b.sent, daemon)
				require.Equal(t, []session.FilterReason{want}, b.filtered, daemon)
			}
		})
	}
}

// BenchmarkForwarded is the way of an event of 1 KiB through the sessions of its
// orchestrator, from the batch to its ack.
func BenchmarkForwarded(b *testing.B) {
	for _, n := range []int{1, 5} {
		b.Run(fmt.Sprintf("%d connections", n), func(b *testing.B) {
			now := time.Unix(1000, 0)
			var sessions []*session.Session
			for range n {
				sessions = append(sessions, liveAt(now))
			}
			body := bodyOf("o", "", `{"text":"`+string(bytes.Repeat([]byte("x"), 1<<10))+`"}`)
			b.ReportAllocs()
			sequence := uint64(10)
			for b.Loop() {
				candidate := session.NewCandidate(eventlog.Message{Token: "o", Sequence: sequence + 1, Body: body})
				for _, s := range sessions {
					forward(b, s, candidate, sequence, now)
				}
				sequence++
			}
		})
	}
}

// forward hands an event to a session that has considered all up to sequence
// after, and acknowledges it.
func forward(t testing.TB, s *session.Session, candidate *session.Candidate, after uint64, now time.Time) {
	s.Forwarded(epoch, candidate, after, now)
	for _, e := range s.Take() {
		if send, ok := e.(session.Send); ok {
			s.Written(send.Run, send.Position.Sequence, now)
		}
	}
	if s.Ack([]string{"e"}, now) != 1 {
		t.Fatal("not sent")
	}
	s.Take()
}

// The copy of the event and its id, its texts, and what the session emits.
func TestAnEventThroughASessionAllocatesLittle(t *testing.T) {
	now := time.Unix(1000, 0)
	s := liveAt(now)
	body, sequence := bodyOf("o", "", `{"text":"x"}`), uint64(10)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		forward(t, s, session.NewCandidate(eventlog.Message{Token: "o", Sequence: sequence + 1, Body: body}), sequence, now)
		sequence++
	}), 7.0)
}

// liveAt returns a session that has considered all up to sequence 10.
func liveAt(now time.Time) *session.Session {
	s := session.New(config())
	s.Subscribe([]protocol.Subscription{{Pattern: "*"}}, now)
	s.Tick(now.Add(time.Second))
	s.Started(0, epoch, cursor.Entry{Floor: 10}, true, now)
	s.LastKnown(0, eventlog.Last{Sequence: 8, UpTo: 10}, now)
	s.Take()
	return s
}
