package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// badEvents are what a publisher may get wrong, each for orchestrator vp_1
// where it can be read.
var badEvents = []struct {
	name   string
	text   []byte
	reason event.Reason
	field  string // that the dead letter names
}{
	{"empty", nil, event.ReasonNotJSON, ""},
	{"not JSON", []byte("{oops"), event.ReasonNotJSON, ""},
	{"a list", []byte(`[{"id":"x"}]`), event.ReasonNotJSON, ""},
	{"null", []byte(`null`), event.ReasonNotJSON, ""},
	{"not UTF-8", []byte("{\"id\":\"\xff\"}"), event.ReasonInvalidUTF8, ""},
	{"no id", bad(`"id":"ID"`, `"Id":"ID"`), event.ReasonMissingField, "id"},
	{"no type", bad(`"type":"message.received",`, ``), event.ReasonMissingField, "type"},
	{"no orchestrator", bad(`"orchestratorId":"vp_1"`, `"orchestratorId":""`), event.ReasonMissingField, "orchestratorId"},
	{"no payload", bad(`,"payload":{}`, ``), event.ReasonMissingField, "payload"},
	{"a numeric id", bad(`"id":"ID"`, `"id":7`), event.ReasonInvalidField, "id"},
	{"a numeric orchestrator", bad(`"orchestratorId":"vp_1"`, `"orchestratorId":7`), event.ReasonInvalidField, "orchestratorId"},
	{"a payload of text", bad(`"payload":{}`, `"payload":"{}"`), event.ReasonInvalidField, "payload"},
	{"a type of one word", bad(`message.received`, `message`), event.ReasonInvalidField, "type"},
	{"a list of daemons", bad(`"payload"`, `"daemonId":["d"],"payload"`), event.ReasonInvalidField, "daemonId"},
	{"a long orchestrator", bad(`"vp_1"`, `"`+strings.Repeat("v", 129)+`"`), event.ReasonInvalidField, "orchestratorId"},
	{"huge", bad(`{}`, `{"content":"`+strings.Repeat("x", 300<<10)+`"}`), event.ReasonTooLarge, ""},
}

// bad is a valid event with one change. Its id is taken from the change, since
// dead letters of one event and reason are one.
func bad(old, replacement string) []byte {
	const valid = `{"id":"ID","type":"message.received","orchestratorId":"vp_1","payload":{}}`
	if !strings.Contains(valid, old) {
		panic("there is no " + old + " to be changed")
	}
	sum := sha256.Sum256([]byte(old + replacement))
	return []byte(strings.Replace(strings.Replace(valid, old, replacement, 1), `"ID"`, fmt.Sprintf(`"bad_%x"`, sum[:4]), 1))
}

func TestBadEventsGoToTheDeadLettersAndGoodOnesGoOn(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(5)
	w.enter(p.everybody()...)
	for _, b := range badEvents {
		require.NoError(t, w.Feed.PublishRaw(w.ctx, b.text), b.name)
		p.publish(20)
	}
	p.settle(everything)
	letters := w.awaitDeadLetters(len(badEvents))
	for _, b := range badEvents {
		sum := sha256.Sum256(b.text)
		i := slices.IndexFunc(letters, func(l eventlog.DeadLetterRecord) bool { return l.BodySHA256 == hex.EncodeToString(sum[:]) })
		require.GreaterOrEqual(t, i, 0, "%s is not in the dead letters", b.name)
		l := letters[i]
		require.Equal(t, b.reason, l.Reason, b.name)
		require.Contains(t, l.Detail, b.field, b.name)
		require.Equal(t, len(b.text), l.BodyBytes, b.name)
		kept := append([]byte(l.Body), l.BodyBase64...)
		require.True(t, bytes.HasPrefix(b.text, kept), b.name)
		require.GreaterOrEqual(t, len(kept), min(len(b.text), 700<<10), b.name)
	}
	p.judge(everything)
}

// What a backend writes into the log itself is judged by the routers.
func TestBadEventsInTheLogDoNotHoldUpTheirPartition(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(1)
	w.enter(p.everybody()...)
	token := event.TokenOf(numbered(0))
	subject := event.Subject(event.PartitionOf(token, partitions), token)
	foreign := `{"id":"foreign","type":"message.received","orchestratorId":"somebody_else","requiresAck":true,"payload":{}}`
	for i, text := range []string{"{oops", foreign, `{"id":"lacking"}`} {
		_, err := w.Log.JetStream().Publish(w.ctx, subject, []byte(text), jetstream.WithMsgID(fmt.Sprintf("%s/bad%d", token, i)))
		require.NoError(t, err)
		require.NoError(t, w.Feed.Publish(w.ctx, traffic.IntoLog, p.generate(20)...))
	}
	p.settle(everything)
	letters := w.awaitDeadLetters(3)
	reasons := make([]event.Reason, 0, len(letters))
	for _, l := range letters {
		reasons = append(reasons, l.Reason)
		require.Positive(t, l.Sequence)
	}
	require.ElementsMatch(t, []event.Reason{event.ReasonNotJSON, event.ReasonWrongSubject, event.ReasonMissingField}, reasons)
	p.judge(everything)
}

// awaitDeadLetters waits until there are n dead letters, and fails at more.
func (w *world) awaitDeadLetters(n int) []eventlog.DeadLetterRecord {
	w.t.Helper()
	w.eventually(func() bool {
		s, err := w.Log.JetStream().Stream(w.ctx, eventlog.DeadletterStream)
		require.NoError(w.t, err)
		return s.CachedInfo().State.Msgs >= uint64(n)
	}, "there are not %d dead letters", n)
	letters, err := w.Log.DeadLetters(w.ctx)
	require.NoError(w.t, err)
	require.Len(w.t, letters, n)
	return letters
}
