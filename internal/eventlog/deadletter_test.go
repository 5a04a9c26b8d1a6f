package eventlog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// deadletters returns all dead letters with their subjects, oldest first.
func deadletters(t *testing.T, s *testserver.NATSServer) (subjects []string, records []eventlog.DeadLetterRecord) {
	t.Helper()
	stream, err := s.JetStream().Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		var r eventlog.DeadLetterRecord
		require.NoError(t, json.Unmarshal(msg.Data, &r))
		subjects, records = append(subjects, msg.Subject), append(records, r)
	}
	return subjects, records
}

// bury stores a dead letter.
func bury(t *testing.T, l *eventlog.Log, d eventlog.DeadLetter) {
	t.Helper()
	_, err := insist(func() (struct{}, error) { return struct{}{}, l.DeadLetter(t.Context(), d) })
	require.NoError(t, err)
}

func TestDeadLetter(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	token := event.TokenOf("orchestrator/1")
	body := `{"id":"e"}`
	p := l.Partition(token)
	d := eventlog.DeadLetter{
		Reason: event.ReasonUndelivered, Token: token, EventID: "e", Daemon: "daemon 1", Detail: "5 tries",
		SettledElsewhere: true, Sequence: 7, Epoch: l.Epoch(p), Body: []byte(body),
	}
	bury(t, l, d)
	bury(t, l, d) // a repeat is stored once
	d.Daemon = "daemon 2"
	bury(t, l, d)

	subjects, records := deadletters(t, s)
	require.Equal(t, []string{"daemon.deadletters.undelivered.orchestrator=2F1", "daemon.deadletters.undelivered.orchestrator=2F1"}, subjects)
	sum := sha256.Sum256([]byte(body))
	want := eventlog.DeadLetterRecord{
		Reason: event.ReasonUndelivered, Detail: "5 tries", Orchestrator: "orchestrator/1", EventID: "e", Daemon: "daemon 1",
		SettledElsewhere: true, Partition: &p, Epoch: l.Epoch(p), Sequence: 7, Time: records[0].Time,
		BodyBytes: len(body), BodySHA256: hex.EncodeToString(sum[:]), Body: body,
	}
	require.Equal(t, want, records[0])
	require.Equal(t, protocol.DaemonID("daemon 2"), records[1].Daemon)
}

// A replay removes the letter, and the event may be given up again soon after, within
// the duplicate window of that letter.
func TestAnEventThatIsGivenUpAgainAfterItsReplayHasADeadLetterAgain(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	d := eventlog.DeadLetter{
		Reason: event.ReasonUndelivered, Token: event.TokenOf("o"), EventID: "e", Daemon: "d", Sequence: 7, Body: []byte(`{"id":"e"}`),
	}
	bury(t, l, d)
	stream, err := s.JetStream().Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), 1))

	d.Sequence = 8
	bury(t, l, d)
	bury(t, l, d) // a repeat is stored once
	_, records := deadletters(t, s)
	require.Len(t, records, 1)
	require.EqualValues(t, 8, records[0].Sequence)
}

// A log that was made anew or rolled back uses its sequences again, and a replay has
// removed the letter of the event that stood there.
func TestAnEventThatIsGivenUpAtTheSamePlaceInAnotherEpochHasADeadLetterOfItsOwn(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	before := l.Epoch(0)
	after, err := insist(func() (eventlog.Epoch, error) { return l.RaiseEpoch(t.Context(), 0, before) })
	require.NoError(t, err)
	d := eventlog.DeadLetter{
		Reason: event.ReasonUndelivered, Token: event.TokenOf("o"), EventID: "e", Daemon: "d", Sequence: 7, Epoch: before,
		Body: []byte(`{"id":"e","payload":{"n":1}}`),
	}
	bury(t, l, d)
	d.Epoch, d.Body = after, []byte(`{"id":"e","payload":{"n":2}}`)
	bury(t, l, d)
	bury(t, l, d) // a repeat is stored once
	_, records := deadletters(t, s)
	require.Len(t, records, 2)
	for i, epoch := range []eventlog.Epoch{before, after} {
		require.Equal(t, epoch, records[i].Epoch, "where it stood, not where the log is now")
	}
	require.Equal(t, string(d.Body), records[1].Body)
}

// TestDeadLetterOfAnything: nothing in an event may keep its dead letter from
// being stored, or harm the connection.
func TestDeadLetterOfAnything(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	big := strings.Repeat("é", 200<<10)
	for _, d := range []eventlog.DeadLetter{
		{Reason: event.ReasonNotJSON, Body: []byte("not json")},
		{Reason: event.ReasonNotJSON, Body: []byte("other, without an id either")},
		{Reason: event.ReasonInvalidUTF8, Body: []byte{0xff, 0xfe}},
		{Reason: event.ReasonInvalidField, Token: event.Token(strings.Repeat("a", 100<<10)), EventID: big, Detail: big, Daemon: protocol.DaemonID(big)},
		{Reason: event.ReasonInvalidField, Token: "a.b > *\r\n", EventID: "a\r\nb"},
		{Reason: event.ReasonTooLarge, Token: "o", EventID: "e", Body: []byte("x" + big)},
		{Reason: event.ReasonTooLarge, Token: "o", EventID: "zero", Body: make([]byte, 1<<20)},
	} {
		bury(t, l, d)
	}
	subjects, records := deadletters(t, s)
	require.Equal(t, []string{
		"daemon.deadletters.not_json.=unknown", "daemon.deadletters.not_json.=unknown", "daemon.deadletters.invalid_utf8.=unknown",
		"daemon.deadletters.invalid_field.=unknown", "daemon.deadletters.invalid_field.=unknown",
		"daemon.deadletters.too_large.o", "daemon.deadletters.too_large.o",
	}, subjects)
	require.Equal(t, []byte{0xff, 0xfe}, records[2].BodyBase64)
	require.Less(t, len(records[3].EventID), 2<<10)
	require.Equal(t, "x"+big, records[5].Body)
	require.Equal(t, 1<<20, records[6].BodyBytes)
	require.Greater(t, len(records[6].BodyBase64), 700<<10, "as much as a message takes")
}

// Of events over 64 KiB the dead letter had the beginning alone, so that they were
// lost.
func TestADeadLetterHasTheWholeEvent(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	const room = 256 << 10 // MAX_EVENT_BYTES
	bodies := []string{
		`{"id":"plain","payload":{"text":"` + strings.Repeat("x", room-40) + `"}}`,
		`{"id":"quotes","payload":{"text":"` + strings.Repeat(`\"`, room/2-20) + `"}}`,
		`{"id":"markup","payload":{"text":"` + strings.Repeat(`<>&`, room/3-20) + `"}}`,
		`{"id":"lines","payload":{` + strings.Repeat("\n", room-40) + `}}`,
		`{"id":"separators","payload":{"text":"` + strings.Repeat("\u2028", room/3-20) + `"}}`,
		strings.Repeat("\x00", room), // no JSON: six times as long as text
	}
	for i, body := range bodies {
		bury(t, l, eventlog.DeadLetter{Reason: event.ReasonUndelivered, Token: "o", EventID: strconv.Itoa(i), Body: []byte(body)})
	}
	_, records := deadletters(t, s)
	for i, body := range bodies {
		got := records[i].Body + string(records[i].BodyBase64)
		require.True(t, got == body, "body %d: %d bytes of %d", i, len(got), len(body))
		require.Equal(t, i == len(bodies)-1, records[i].Body == "", "text where it fits")
	}
}

// Where NATS takes small messages alone, the dead letter of an event that was larger
// is cut; it could not be stored, and its partition waited for it.
func TestADeadLetterFitsWhatNATSTakes(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t, func(o *server.Options) { o.MaxPayload = 32 << 10 })
	l := open(t, s.JetStream(), config(func(c *eventlog.Config) { c.MaxEventBytes = 16 << 10 }))
	text := strings.Repeat("x", 100<<10)
	bury(t, l, eventlog.DeadLetter{Reason: event.ReasonTooLarge, Token: "o", EventID: strings.Repeat("é", 1<<10), Body: []byte(text)})
	bury(t, l, eventlog.DeadLetter{Reason: event.ReasonUndelivered, Token: "o", EventID: "e", Body: []byte(text[:16<<10])})
	_, records := deadletters(t, s)
	require.Equal(t, len(text), records[0].BodyBytes)
	require.Greater(t, len(records[0].BodyBase64), 16<<10)
	require.Equal(t, text[:16<<10], records[1].Body)
}
