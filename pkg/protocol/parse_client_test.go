package protocol_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func message(kind, payload string) string {
	return fmt.Sprintf(`{"type":%q,"id":"m-1","timestamp":"2026-11-22T10:00:00.000Z","payload":%s}`, kind, payload)
}

func manyNames(n int) string {
	return `["` + strings.Repeat(`a.b","`, n-1) + `a.b"]`
}

func TestValidMessages(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", protocol.MaxIDBytes)
	tests := map[string]struct {
		text string
		want protocol.ClientPayload
	}{
		"auth": {
			message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":"o"}`),
			protocol.Auth{AccessToken: "t", DaemonID: "d", OrchestratorID: "o"},
		},
		"auth that resumes": {
			message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":"o","resume":{"position":"p"}}`),
			protocol.Auth{AccessToken: "t", DaemonID: "d", OrchestratorID: "o", Resume: &protocol.Resume{Position: "p"}},
		},
		"auth with nothing to resume": {
			message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":"o","resume":{"position":null}}`),
			protocol.Auth{AccessToken: "t", DaemonID: "d", OrchestratorID: "o"},
		},
		"auth with ids of the longest kind": {
			message("auth", `{"accessToken":"t","daemonId":"`+long+`","orchestratorId":"`+long+`"}`),
			protocol.Auth{AccessToken: "t", DaemonID: protocol.DaemonID(long), OrchestratorID: protocol.OrchestratorID(long)},
		},
		"heartbeat": {
			message("heartbeat", `{"status":"busy","metrics":{"memoryUsageBytes":1e6,"uptimeSeconds":0.5}}`),
			protocol.Heartbeat{Status: protocol.StatusBusy, Metrics: []byte(`{"memoryUsageBytes":1e6,"uptimeSeconds":0.5}`)},
		},
		"heartbeat with metrics of any kind": {
			message("heartbeat", `{"metrics":{"startedAt":"2026-11-22T10:00:00Z","errors":null,"cpu":{"user":[0.5]},"ok":true,"big":1e999}}`),
			protocol.Heartbeat{Metrics: []byte(`{"startedAt":"2026-11-22T10:00:00Z","errors":null,"cpu":{"user":[0.5]},"ok":true,"big":1e999}`)},
		},
		"heartbeat with metrics of the largest kind": {
			message("heartbeat", `{"metrics":`+metricsOf(protocol.MaxMetricsBytes)+`}`),
			protocol.Heartbeat{Metrics: []byte(metricsOf(protocol.MaxMetricsBytes))},
		},
		"heartbeat without metrics": {message("heartbeat", `{"metrics":{}}`), protocol.Heartbeat{}},
		"heartbeat with work in hand": {
			message("heartbeat", `{"status":"busy","inProgress":["e1","e2"]}`),
			protocol.Heartbeat{Status: protocol.StatusBusy, InProgress: []string{"e1", "e2"}},
		},
		"heartbeat without work": {message("heartbeat", `{"inProgress":[]}`), protocol.Heartbeat{}},
		"heartbeat without anything": {
			`{"type":"heartbeat","id":"m-1","timestamp":"2026-11-22T10:00:00Z"}`, protocol.Heartbeat{},
		},
		"subscribe": {
			message("subscribe", `{"eventTypes":["message.received","channel.*","*","channel.*"],"channelIds":["c1","c2","c1"]}`),
			protocol.Subscribe{EventTypes: []protocol.Pattern{"message.received", "channel.*", "*"}, ChannelIDs: []string{"c1", "c2"}},
		},
		"subscribe to types nobody has heard of": {
			message("subscribe", `{"eventTypes":["weather.changed"],"channelIds":[]}`),
			protocol.Subscribe{EventTypes: []protocol.Pattern{"weather.changed"}},
		},
		"subscribe that asks for an answer": {
			message("subscribe", `{"eventTypes":["a.b"],"confirm":true}`),
			protocol.Subscribe{EventTypes: []protocol.Pattern{"a.b"}, Confirm: true},
		},
		"subscribe that asks for nothing": {
			message("subscribe", `{"eventTypes":["a.b"],"confirm":"yes"}`), protocol.Subscribe{EventTypes: []protocol.Pattern{"a.b"}},
		},
		"subscribe to as many as allowed": {
			message("subscribe", `{"eventTypes":`+manyNames(50)+`}`), protocol.Subscribe{EventTypes: []protocol.Pattern{"a.b"}},
		},
		"unsubscribe": {message("unsubscribe", `{"eventTypes":["*"]}`), protocol.Unsubscribe{EventTypes: []protocol.Pattern{"*"}}},
		"ack":         {message("ack", `{"eventIds":["e1","e2"]}`), protocol.Ack{EventIDs: []string{"e1", "e2"}}},
		"unknown fields, other case, and white space": {
			" {\"extra\":[1],\"type\":\"ack\",\"Type\":\"auth\",\"id\":\"m-1\",\"timestamp\":\"2026-11-22\",\n\"payload\":{\"eventIds\":[ \"e\" ],\"EventIds\":7,\"x\":{}}}\n",
			protocol.Ack{EventIDs: []string{"e"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, fault := protocol.ParseClientMessage([]byte(tt.text))
			require.Nil(t, fault)
			require.Equal(t, protocol.ClientMessage{Type: tt.want.Type(), ID: "m-1", Payload: tt.want}, m)
		})
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	const auth = `{"accessToken":"t","daemonId":"d","orchestratorId":"o"}`
	tooLong := strings.Repeat("x", protocol.MaxIDBytes+1)
	tests := map[string]struct{ text, field, detail string }{
		"no type":               {`{"id":"m-1","timestamp":"2026-11-22","payload":{}}`, "type", "missing"},
		"type in another case":  {`{"TYPE":"ack","id":"m-1","timestamp":"2026-11-22","payload":{"eventIds":["e"]}}`, "type", "missing"},
		"type of a number":      {`{"type":1,"id":"m-1","timestamp":"2026-11-22"}`, "type", "expected a string, got a number"},
		"unknown type":          {message("event", `{}`), "type", "expected auth, heartbeat, subscribe, unsubscribe or ack"},
		"no timestamp":          {`{"type":"auth","id":"m-1","payload":` + auth + `}`, "timestamp", "missing"},
		"timestamp of a number": {`{"type":"auth","id":"m-1","timestamp":1732291200000,"payload":` + auth + `}`, "timestamp", "got a number"},
		"timestamp of words":    {`{"type":"auth","id":"m-1","timestamp":"yesterday","payload":` + auth + `}`, "timestamp", "ISO 8601"},
		"payload of a list":     {message("auth", `[]`), "payload", "expected an object, got a list"},
		"payload missing":       {`{"type":"auth","id":"m-1","timestamp":"2026-11-22"}`, "payload.accessToken", "missing"},
		"payload null":          {message("ack", `null`), "payload.eventIds", "missing"},

		"auth without token":        {message("auth", `{"daemonId":"d","orchestratorId":"o"}`), "payload.accessToken", "missing"},
		"auth with an empty token":  {message("auth", `{"accessToken":"","daemonId":"d","orchestratorId":"o"}`), "payload.accessToken", "empty"},
		"auth with a token object":  {message("auth", `{"accessToken":{},"daemonId":"d","orchestratorId":"o"}`), "payload.accessToken", "got an object"},
		"auth without daemon":       {message("auth", `{"accessToken":"t","orchestratorId":"o"}`), "payload.daemonId", "missing"},
		"auth with a long daemon":   {message("auth", `{"accessToken":"t","daemonId":"`+tooLong+`","orchestratorId":"o"}`), "payload.daemonId", "has 129 bytes, expected at most 128"},
		"auth without orchestrator": {message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":null}`), "payload.orchestratorId", "missing"},

		"subscribe to nothing":           {message("subscribe", `{"eventTypes":[]}`), "payload.eventTypes", "has 0 items, expected 1 to 50"},
		"subscribe without types":        {message("subscribe", `{}`), "payload.eventTypes", "missing"},
		"subscribe to a text":            {message("subscribe", `{"eventTypes":"*"}`), "payload.eventTypes", "expected a list, got a string"},
		"subscribe to too many":          {message("subscribe", `{"eventTypes":`+manyNames(51)+`}`), "payload.eventTypes", "has 51 items"},
		"subscribe to bad names only":    {message("subscribe", `{"eventTypes":["nodot"]}`), "payload.eventTypes[0]", `"nodot"`},
		"subscribe with a channel text":  {message("subscribe", `{"eventTypes":["*"],"channelIds":"c"}`), "payload.channelIds", "expected a list"},
		"subscribe with a channel empty": {message("subscribe", `{"eventTypes":["*"],"channelIds":["c",""]}`), "payload.channelIds[1]", "empty"},
		"subscribe with a channel null":  {message("subscribe", `{"eventTypes":["*"],"channelIds":[null]}`), "payload.channelIds[0]", "got null"},
		"bad name and bad channel":       {message("subscribe", `{"eventTypes":["*","bad"],"channelIds":[1]}`), "payload.eventTypes[1]", "bad"},
		"unsubscribe without types":      {message("unsubscribe", `{}`), "payload.eventTypes", "missing"},

		"ack of nothing":  {message("ack", `{"eventIds":[]}`), "payload.eventIds", "has 0 items, expected 1 to 1000"},
		"ack of too many": {message("ack", `{"eventIds":`+manyNames(1001)+`}`), "payload.eventIds", "has 1001 items"},
		"ack of a number": {message("ack", `{"eventIds":["e",7]}`), "payload.eventIds[1]", "got a number"},
		"ack of a text":   {message("ack", `{"eventIds":"e"}`), "payload.eventIds", "expected a list"},
		"ack of a novel":  {message("ack", `{"eventIds":["`+tooLong+`"]}`), "payload.eventIds[0]", "129 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, fault := protocol.ParseClientMessage([]byte(tt.text))
			require.NotNil(t, fault)
			require.Nil(t, m.Payload)
			require.Equal(t, protocol.InvalidMessage, fault.Code)
			require.Equal(t, tt.field, fault.Field)
			require.Contains(t, fault.Detail, tt.detail)
			require.Equal(t, "m-1", fault.InReplyTo)
			require.Zero(t, fault.Close)
		})
	}
}

// metricsOf is a JSON object of so many bytes.
func metricsOf(size int) string {
	return `{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}`
}

// A daemon whose metrics nobody had thought of was disconnected after three of
// its heartbeats.
// A daemon whose notes of a position are spoiled is let in all the same, and
// continues from its cursor.
func TestAResumeThatCannotBeUsedIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, resume := range []string{`"p"`, `7`, `[]`, `{"position":3}`, `{"position":{}}`} {
		m, fault := protocol.ParseClientMessage([]byte(message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":"o","resume":`+resume+`}`)))
		require.Equal(t, protocol.Auth{AccessToken: "t", DaemonID: "d", OrchestratorID: "o"}, m.Payload, resume)
		require.Equal(t, []string{"resume"}, fault.LeftOut)
		require.Equal(t, "payload.resume", fault.Field)
	}
}

func TestWhatCannotBeUsedOfAHeartbeatIsLeftOut(t *testing.T) {
	t.Parallel()
	tooLong := strings.Repeat("x", protocol.MaxIDBytes+1)
	many := protocol.Heartbeat{InProgress: slices.Repeat([]string{"a.b"}, protocol.MaxAckIDs)}
	tests := map[string]struct {
		payload string
		want    protocol.Heartbeat
		leftOut []string
		detail  string
	}{
		"another status":            {`{"status":"asleep","metrics":{"a":1}}`, protocol.Heartbeat{Metrics: []byte(`{"a":1}`)}, []string{"status"}, "active, idle or busy"},
		"an empty status":           {`{"status":""}`, protocol.Heartbeat{}, []string{"status"}, "active, idle or busy"},
		"a status flag":             {`{"status":true}`, protocol.Heartbeat{}, []string{"status"}, "active, idle or busy"},
		"a status object":           {`{"status":{"a":1}}`, protocol.Heartbeat{}, []string{"status"}, "active, idle or busy"},
		"a metrics list":            {`{"status":"busy","metrics":[1]}`, protocol.Heartbeat{Status: protocol.StatusBusy}, []string{"metrics"}, "got a list"},
		"a metrics text":            {`{"metrics":"fine"}`, protocol.Heartbeat{}, []string{"metrics"}, "got a string"},
		"large metrics":             {`{"metrics":` + metricsOf(protocol.MaxMetricsBytes+1) + `}`, protocol.Heartbeat{}, []string{"metrics"}, "has 4097 bytes, expected at most 4096"},
		"work that is no list":      {`{"inProgress":"e1"}`, protocol.Heartbeat{}, []string{"inProgress"}, "got a string"},
		"work that is an object":    {`{"inProgress":{"e1":true}}`, protocol.Heartbeat{}, []string{"inProgress"}, "got an object"},
		"work of which some is any": {`{"inProgress":["e1",7,null,"","` + tooLong + `","e2"]}`, protocol.Heartbeat{InProgress: []string{"e1", "e2"}}, []string{"inProgress"}, "4 of 6 items"},
		"too much work":             {`{"inProgress":` + manyNames(protocol.MaxAckIDs+1) + `}`, many, []string{"inProgress"}, "1 of 1001 items"},
		"a payload that is a list":  {`[]`, protocol.Heartbeat{}, []string{"payload"}, "got a list"},
		"a payload that is a text":  {`"alive"`, protocol.Heartbeat{}, []string{"payload"}, "got a string"},
		"all of it":                 {`{"status":7,"metrics":7,"inProgress":7}`, protocol.Heartbeat{}, []string{"status", "metrics", "inProgress"}, "; metrics: expected an object, got a number; "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, fault := protocol.ParseClientMessage([]byte(message("heartbeat", tt.payload)))
			require.Equal(t, protocol.ClientMessage{Type: protocol.TypeHeartbeat, ID: "m-1", Payload: tt.want}, m)
			require.NotNil(t, fault)
			require.Equal(t, tt.leftOut, fault.LeftOut)
			require.Subset(t, protocol.Optional, fault.LeftOut)
			require.Equal(t, protocol.InvalidMessage, fault.Code)
			require.Contains(t, fault.Detail, tt.detail)
			require.Equal(t, "m-1", fault.InReplyTo)
			require.Less(t, len(fault.Detail), 300)
		})
	}
}

func TestAHeartbeatWhoseEnvelopeIsBadIsRefused(t *testing.T) {
	t.Parallel()
	m, fault := protocol.ParseClientMessage([]byte(`{"type":"heartbeat","id":"m-1","timestamp":"yesterday","payload":{"status":7}}`))
	require.Nil(t, m.Payload)
	require.Equal(t, "timestamp", fault.Field)
	require.Empty(t, fault.LeftOut)
}

func TestNumbersLeavesOutWhatJSONCannotWrite(t *testing.T) {
	t.Parallel()
	require.JSONEq(t, `{"errors":3}`, string(protocol.Numbers(map[string]float64{"errors": 3, "ratio": math.NaN(), "rate": math.Inf(1)})))
}

func TestFaultOfTheWholeFrame(t *testing.T) {
	t.Parallel()
	for text, detail := range map[string]string{
		``: "unexpected end", `nonsense`: "invalid character", `{"type":`: "unexpected end", `{} {}`: "after top-level value",
		`[]`: "got a list", `"auth"`: "got a string", ` null `: "got null", `7`: "got a number", `true`: "got a boolean",
	} {
		m, fault := protocol.ParseClientMessage([]byte(text))
		require.Equal(t, protocol.ClientMessage{}, m, text)
		require.NotNil(t, fault, text)
		require.Contains(t, fault.Message, "the frame is not a JSON object", text)
		require.Contains(t, fault.Message, detail, text)
		require.Zero(t, fault.Close, text)
	}
	_, fault := protocol.ParseClientMessage([]byte("{\"type\":\"\xff\"}"))
	require.Equal(t, protocol.CloseInvalidUTF8, fault.Close)
}

func TestIDThatIsNotReadableIsNotEchoed(t *testing.T) {
	t.Parallel()
	for _, id := range []string{`7`, `null`, `""`, `"` + strings.Repeat("x", 129) + `"`} {
		m, fault := protocol.ParseClientMessage([]byte(`{"type":"ack","id":` + id + `,"timestamp":"2026-11-22","payload":{"eventIds":["e"]}}`))
		require.NotNil(t, fault, id)
		require.Equal(t, "id", fault.Field, id)
		require.Empty(t, fault.InReplyTo, id)
		require.Equal(t, protocol.TypeAck, m.Type, id)
		require.Nil(t, m.Payload, id)
	}
}

func TestGoodNamesAreKeptAndTheBadOnesNamed(t *testing.T) {
	t.Parallel()
	names := `["message.received","bad name",7,"channel.*",null,"*.*",""]`
	m, fault := protocol.ParseClientMessage([]byte(message("subscribe", `{"eventTypes":`+names+`,"channelIds":["c"]}`)))
	require.Equal(t, protocol.Subscribe{EventTypes: []protocol.Pattern{"message.received", "channel.*"}, ChannelIDs: []string{"c"}}, m.Payload)
	require.Equal(t, "payload.eventTypes[1]", fault.Field)
	require.Equal(t, "payload.eventTypes: 5 of 7 names are not valid", fault.Message)
	for _, want := range []string{`[1] event type "bad name"`, "[2] expected a string, got a number", "[4] expected a string, got null", `[5] event type "*.*"`, "[6] "} {
		require.Contains(t, fault.Detail, want)
	}

	m, fault = protocol.ParseClientMessage([]byte(message("unsubscribe", `{"eventTypes":["bad","*"]}`)))
	require.NotNil(t, fault)
	require.Equal(t, protocol.Unsubscribe{EventTypes: []protocol.Pattern{"*"}}, m.Payload)
}

func TestTimestampsOfISO8601AreAccepted(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456789+01:00", "2026-11-22T10:00:00+0100",
		"2026-11-22T10:00:00-05", "2026-11-22T10:00:00.123456", "2026-11-22 10:00:00+00:00", "2026-11-22T10:00Z", "2026-11-22T10:00",
		"20261122T100000Z", "20261122T100000", "2026-11-22", "2026-11-22t10:00:00.5z", "2026-11-22T10:00:00,5Z", "2026-11-22T10:00+01:00",
	} {
		_, fault := protocol.ParseClientMessage([]byte(`{"type":"heartbeat","id":"1","timestamp":"` + text + `"}`))
		require.Nil(t, fault, text)
	}
}

func TestFaultNeverShowsAToken(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`{"accessToken":["SECRET"],"daemonId":"d","orchestratorId":"o"}`,
		`{"accessToken":"SECRET","daemonId":7,"orchestratorId":"o"}`,
		`{"accessToken":"SECRET","daemonId":"d","orchestratorId":"o"`,
	} {
		_, fault := protocol.ParseClientMessage([]byte(message("auth", payload)))
		require.NotNil(t, fault)
		require.NotContains(t, fault.Error()+fault.Detail, "SECRET")
	}
}

func TestWhatAClientEncodesIsParsedBack(t *testing.T) {
	t.Parallel()
	for _, payload := range []protocol.ClientPayload{
		protocol.Auth{AccessToken: "<t>", DaemonID: "d", OrchestratorID: "ö", Resume: &protocol.Resume{Position: "p"}},
		protocol.Heartbeat{},
		protocol.Heartbeat{Status: protocol.StatusActive, Metrics: []byte(`{"a":-1.5}`), InProgress: []string{"e"}},
		protocol.Subscribe{EventTypes: []protocol.Pattern{"*"}, ChannelIDs: []string{"c"}},
		protocol.Unsubscribe{EventTypes: []protocol.Pattern{"call.*"}},
		protocol.Ack{EventIDs: []string{"e"}},
	} {
		frame, id, err := protocol.EncodeClientMessage(time.Now(), payload)
		require.NoError(t, err)
		m, fault := protocol.ParseClientMessage(frame)
		require.Nil(t, fault)
		require.Equal(t, protocol.ClientMessage{Type: payload.Type(), ID: id, Payload: payload}, m)
	}
}

func FuzzParseClientMessage(f *testing.F) {
	f.Add([]byte(message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":"o","resume":{"position":"p"}}`)))
	f.Add([]byte(message("heartbeat", `{"status":"busy","metrics":{"a":1}}`)))
	f.Add([]byte(message("heartbeat", `{"status":7,"metrics":[],"inProgress":["e",7]}`)))
	f.Add([]byte(message("subscribe", `{"eventTypes":["*","bad",7],"channelIds":["c"]}`)))
	f.Add([]byte(message("ack", `{"eventIds":["e"]}`)))
	f.Add([]byte("{\"type\":\"\xff\"}"))
	f.Add([]byte(` null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, fault := protocol.ParseClientMessage(data)
		if fault == nil {
			require.NotNil(t, m.Payload)
			require.Equal(t, m.Type, m.Payload.Type())
			require.NotEmpty(t, m.ID)
			requireReencodes(t, m.Payload)
		} else {
			require.Equal(t, protocol.InvalidMessage, fault.Code)
			require.LessOrEqual(t, len(fault.InReplyTo), protocol.MaxIDBytes)
			quotetest.RequireLittle(t, data, errors.New(fault.Message+" "+fault.Field+" "+fault.Detail))
			require.True(t, json.Valid(protocol.AppendFrame(nil, time.Now(), fault)))
		}
		if s, ok := m.Payload.(protocol.Subscribe); ok {
			require.NotEmpty(t, s.EventTypes)
			require.LessOrEqual(t, len(s.EventTypes), protocol.MaxSubscriptions)
			for _, p := range s.EventTypes {
				require.NoError(t, p.Validate())
			}
		}
	})
}

// requireReencodes checks that a payload, sent on, would be read as the same.
func requireReencodes(t *testing.T, payload protocol.ClientPayload) {
	t.Helper()
	frame, _, err := protocol.EncodeClientMessage(time.Now(), payload)
	require.NoError(t, err)
	m, fault := protocol.ParseClientMessage(frame)
	require.Nil(t, fault)
	want, err := json.Marshal(payload)
	require.NoError(t, err)
	got, err := json.Marshal(m.Payload)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}
