package httpevents

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// Reports: sindresorhus/query-string#33, django-tastypie/django-tastypie#1198.
func TestParseQuery(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]Query{
		"":                                     {now.Add(-5 * time.Minute), 100},
		"limit=1":                              {now.Add(-5 * time.Minute), 1},
		"limit=1000&since=":                    {now.Add(-5 * time.Minute), 1000},
		"since=2026-11-22T10:00:00.000Z":       {now, 100},
		"since=2026-11-22T10:00:00.123456789Z": {now.Add(123456789), 100},
		"since=2026-11-22T11:00:00%2B01:00":    {now, 100},
		"since=2026-11-22T11:00:00+01:00":      {now, 100},
		"since=2026-11-22+10:00:00Z":           {now, 100},
		"since=2026-11-22T10:00:00":            {now, 100},
		"since=0001-01-01T00:00:00Z":           {time.Unix(0, 0), 100},
		"something=else":                       {now.Add(-5 * time.Minute), 100},
	} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err, query)
		got, err := ParseQuery(values, now)
		require.NoError(t, err, query)
		require.True(t, want.Since.Equal(got.Since), "%s: %s", query, got.Since)
		require.Equal(t, want.Limit, got.Limit, query)
	}
	for query, problem := range map[string]string{
		"limit=0":         "limit: expected a number from 1 to 1000",
		"limit=1001":      "limit: ",
		"limit=-1":        "limit: ",
		"limit=many":      "limit: ",
		"limit=1.5":       "limit: ",
		"since=yesterday": "since: expected a time in ISO 8601",
		"since=17":        "since: ",
	} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		_, err = ParseQuery(values, now)
		require.ErrorContains(t, err, problem, query)
	}
}

func TestParseAck(t *testing.T) {
	t.Parallel()
	many := func(n int) string {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint("e", i)
		}
		text, err := json.Marshal(ids)
		require.NoError(t, err)
		return `{"eventIds":` + string(text) + `}`
	}
	for body, want := range map[string][]string{
		`{"eventIds":["b","a"]}`:     {"b", "a"},
		`{"eventIds":["a","a","a"]}`: {"a"},
		`{"eventIds":["` + strings.Repeat("x", protocol.MaxIDBytes+1) + `"],"more":1}`: {},
	} {
		got, err := ParseAck([]byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want, got)
	}
	got, err := ParseAck([]byte(many(1000)))
	require.NoError(t, err)
	require.Len(t, got, 1000)
	for body, problem := range map[string]string{
		``:                       "expected a JSON object",
		`[]`:                     "expected a JSON object",
		`{"eventIds":"a"}`:       "expected a JSON object",
		`{"eventIds":[1]}`:       "expected a JSON object",
		`null`:                   "eventIds: got 0 ids, expected 1 to 1000",
		`{}`:                     "eventIds: got 0 ids",
		`{"eventIds":[]}`:        "eventIds: got 0 ids",
		`{"eventIds":["a", ""]}`: "eventIds[1]: is empty",
		many(1001):               "eventIds: got more than 1000 ids",
	} {
		_, err := ParseAck([]byte(body))
		require.ErrorContains(t, err, problem, body)
	}
}

func viewer(scopes ...string) Viewer {
	return Viewer{Orchestrator: "vp", Daemon: "mine", Scopes: auth.NewScopes(scopes, false), MaxEventBytes: event.DefaultMaxBytes}
}

func message(sequence uint64, stored time.Time, change ...func(*event.Event)) eventlog.Message {
	e := event.Event{
		ID: fmt.Sprint("event-", sequence), Type: "message.received", OrchestratorID: "vp", Payload: json.RawMessage(`{}`),
	}
	for _, f := range change {
		f(&e)
	}
	body, err := e.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return eventlog.Message{Token: "vp", Sequence: sequence, Stored: stored, Body: body}
}

func TestWhoSeesWhat(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(*event.Event)
		viewer  Viewer
		visible bool
	}{
		"an event for all":                {func(*event.Event) {}, viewer(), true},
		"for this daemon":                 {func(e *event.Event) { e.DaemonID = "mine" }, viewer(), true},
		"for another daemon":              {func(e *event.Event) { e.DaemonID = "other" }, viewer(), false},
		"another's under our subject":     {func(e *event.Event) { e.OrchestratorID = "other" }, viewer(), false},
		"of a type the scopes allow":      {func(*event.Event) {}, viewer("messages:read"), true},
		"of a type they do not":           {func(e *event.Event) { e.Type = "call.started" }, viewer("messages:read"), false},
		"addressed, by a token of no one": {func(e *event.Event) { e.DaemonID = "mine" }, Viewer{Orchestrator: "vp", MaxEventBytes: 1000}, false},
		"malformed":                       {func(e *event.Event) { e.ID = "" }, viewer(), false},
	} {
		_, visible := test.viewer.Sees(message(1, now, test.change).Body)
		require.Equal(t, test.visible, visible, name)
	}
}

func TestAnEventAsItIsListed(t *testing.T) {
	t.Parallel()
	l := NewListing(viewer(), Query{Since: now, Limit: 2})
	require.True(t, l.Add(message(1, now.Add(1), func(e *event.Event) {
		e.Payload, e.ChannelID = json.RawMessage(`{"messageId": "m-1",  "n":1.0, "é":"<"}`), "c\"1"
		e.Timestamp = "2020-01-01T00:00:00Z"
	})))
	require.True(t, l.Add(message(2, now.Add(time.Second), func(e *event.Event) { e.Payload = json.RawMessage(`{"messageId":7}`) })))
	require.False(t, l.Add(message(3, now.Add(2*time.Second))))
	require.Equal(t, `{"events":[`+
		`{"id":"event-1","type":"message.received","payload":{"messageId": "m-1",  "n":1.0, "é":"<"},`+
		`"createdAt":"2026-11-22T10:00:00.000000001Z","channelId":"c\"1","messageId":"m-1"},`+
		`{"id":"event-2","type":"message.received","payload":{"messageId":7},`+
		`"createdAt":"2026-11-22T10:00:01.000000000Z","channelId":null,"messageId":null}`+
		`],"hasMore":true}`, string(l.Body()))
	require.Equal(t, `{"events":[],"hasMore":false}`, string(NewListing(viewer(), Query{}).Body()))
}

func TestWhetherThereIsMoreDependsOnWhatTheViewerSees(t *testing.T) {
	t.Parallel()
	l := NewListing(viewer(), Query{Limit: 1})
	require.True(t, l.Add(message(1, now)))
	require.True(t, l.Add(message(2, now, func(e *event.Event) { e.DaemonID = "other" })))
	require.Contains(t, string(l.Body()), `"hasMore":false`)
}

func TestAnAnswerIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	l := NewListing(viewer(), Query{Limit: 1000})
	l.maximum = 400
	added := 0
	for l.Add(message(uint64(added), now.Add(time.Duration(added)))) {
		added++
	}
	require.Positive(t, added)
	require.Less(t, added, 10)
	require.Contains(t, string(l.Body()), `"hasMore":true`)

	l = NewListing(viewer(), Query{Limit: 1000})
	l.maximum = 1
	require.True(t, l.Add(message(1, now)), "one event goes in any case")
}

type page struct {
	Events []struct {
		ID        string
		CreatedAt string
	}
	HasMore bool
}

// list answers a query from a log, as one request does.
func list(t *testing.T, log []eventlog.Message, since string, limit int) (got page) {
	t.Helper()
	q, err := ParseQuery(url.Values{"since": {since}, "limit": {fmt.Sprint(limit)}}, now)
	require.NoError(t, err)
	l := NewListing(viewer(), q)
	for _, m := range log {
		if !l.Add(m) {
			break
		}
	}
	require.NoError(t, json.Unmarshal(l.Body(), &got))
	return got
}

// Whatever the events' times, and however exactly the client's clock can say
// them, following createdAt finds each event and comes to an end.
func TestPagingByCreatedAtNeitherSkipsNorLoops(t *testing.T) {
	t.Parallel()
	var log []eventlog.Message
	stored := now
	for i, gap := range []time.Duration{ // since the one before
		1, time.Microsecond, 1, 1, 1, 1, time.Millisecond, 3 * time.Second, 1, 1, time.Millisecond - 1, 1, 1, 1, 1, time.Second,
	} {
		stored = stored.Add(gap)
		log = append(log, message(uint64(i+1), stored))
	}
	toMilliseconds := func(text string) string {
		at, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		return at.Truncate(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
	}
	for name, test := range map[string]struct {
		next  func(string) string
		exact bool
	}{
		"as it came":         {func(text string) string { return text }, true},
		"cut to a Date's ms": {toMilliseconds, false},
	} {
		for limit := 1; limit <= len(log)+1; limit++ {
			seen := map[string]bool{}
			since, pages := "2026-11-22T09:00:00Z", 0
			for more := true; more; pages++ {
				require.Less(t, pages, 3*len(log), "%s, limit %d: it never ends", name, limit)
				got := list(t, log, since, limit)
				for _, e := range got.Events {
					require.False(t, test.exact && seen[e.ID], "%s twice", e.ID)
					seen[e.ID] = true
				}
				require.True(t, !test.exact || len(got.Events) <= limit)
				if more = got.HasMore; more {
					since = test.next(got.Events[len(got.Events)-1].CreatedAt)
				}
			}
			require.Len(t, seen, len(log), "%s, limit %d: some were skipped", name, limit)
		}
	}
}

// heads are those of events with these sequences and ids; "": without a message id.
func heads(sequences []uint64, ids ...string) *Heads {
	h := &Heads{}
	for i, sequence := range sequences {
		id := ids[i]
		if id != "" {
			id = event.MessageID(viewer().Orchestrator, id)
		}
		h.Add(sequence, id, 100)
	}
	return h
}

func TestFoundEventsAndTheGapsBetweenThem(t *testing.T) {
	t.Parallel()
	known := heads([]uint64{3, 5, 8, 9, 10, 11}, "event-3", "event-5", "event-8", "event-9", "", "event-11")
	asked := []string{"event-3", "event-5", "event-9", "event-11", "unknown"}
	f := NewFound(viewer(), asked, known)
	from, events := f.Next()
	require.EqualValues(t, 3, from)
	require.Equal(t, 2, events, "what nobody has asked for stands behind them")
	f.Add([]eventlog.Message{message(3, now), message(8, now)}) // the fifth is gone by now
	from, events = f.Next()
	require.EqualValues(t, 9, from)
	require.Equal(t, 3, events, "those asked for, and the one that does not say who it is")
	f.Add([]eventlog.Message{message(9, now), message(10, now), message(11, now, func(e *event.Event) { e.DaemonID = "other" })})
	_, events = f.Next()
	require.Zero(t, events)
	require.Equal(t, []cursor.Range{{First: 1, Last: 3}, {First: 9, Last: 9}}, f.Ranges)

	again := NewFound(viewer(), []string{"event-9"}, known)
	_, events = again.Next()
	require.Equal(t, 1, events, "by now it is known who the other is")
	f = NewFound(viewer(), []string{"event-10"}, known)
	from, _ = f.Next()
	require.EqualValues(t, 10, from)
}

// Of what was dropped it is still known that it was there: a range that begins
// after it settles nothing before.
func TestHeadsThatAreTooManyAreDropped(t *testing.T) {
	t.Parallel()
	h := &Heads{}
	require.EqualValues(t, 1, h.Next())
	for sequence := uint64(10); sequence <= 100; sequence += 10 {
		h.Add(sequence, event.MessageID(viewer().Orchestrator, fmt.Sprintf("event-%d", sequence)), 4)
		require.Less(t, len(h.list), 8)
		require.Equal(t, sequence+1, h.Next())
	}
	first := h.list[0].sequence
	require.Greater(t, first, uint64(10))
	f := NewFound(viewer(), []string{"event-10", fmt.Sprintf("event-%d", first)}, h)
	f.Add([]eventlog.Message{message(first, now)})
	require.Equal(t, []cursor.Range{{First: first - 9, Last: first}}, f.Ranges)
}

func TestWhatIsGoneIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := NewFound(viewer(), []string{"event-3"}, heads([]uint64{3}, "event-3"))
	f.Add(nil)
	_, events := f.Next()
	require.Zero(t, events)
	require.Empty(t, f.Ranges)
}
