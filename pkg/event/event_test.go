package event_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func valid() map[string]any {
	return map[string]any{
		"id": "event_1732291200000_6f9619ff", "type": "message.received", "daemonId": "", "orchestratorId": "clx1",
		"payload": map[string]any{"content": "hello"}, "timestamp": "2026-11-22T10:00:00.000Z",
		"workspaceId": "w", "channelId": "c", "requiresAck": true, "priority": 1,
	}
}

func TestEventOfNeolithIsRead(t *testing.T) {
	t.Parallel()
	e, err := event.Parse([]byte(`{"id":"event_1","type":"message.received","daemonId":"","orchestratorId":"clx1",
		"payload":{"messageId":"m"},"timestamp":"2026-11-22T10:00:00.000Z","workspaceId":"w","channelId":"c","requiresAck":true,"priority":1}`), event.DefaultMaxBytes)
	require.NoError(t, err)
	require.Equal(t, event.Event{
		ID: "event_1", Type: "message.received", OrchestratorID: "clx1", Payload: []byte(`{"messageId":"m"}`),
		Timestamp: "2026-11-22T10:00:00.000Z", WorkspaceID: "w", ChannelID: "c", RequiresAck: true, Priority: 1,
	}, e)
}

func TestWhatIsValid(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", protocol.MaxIDBytes)
	for name, mutate := range map[string]func(map[string]any){
		"everything":            func(map[string]any) {},
		"only what is required": func(f map[string]any) { keep(f, "id", "type", "orchestratorId", "payload") },
		"optional fields null": func(f map[string]any) {
			for _, name := range []string{"daemonId", "timestamp", "workspaceId", "channelId", "requiresAck", "priority"} {
				f[name] = nil
			}
		},
		"unknown fields":         func(f map[string]any) { f["extra"], f["ID"] = []int{1}, 7 },
		"a type nobody knows":    func(f map[string]any) { f["type"] = "weather.changed" },
		"an empty payload":       func(f map[string]any) { f["payload"] = map[string]any{} },
		"a nested payload":       func(f map[string]any) { f["payload"] = map[string]any{"a": []any{map[string]any{"b": 1}}} },
		"the longest ids":        func(f map[string]any) { f["id"], f["orchestratorId"], f["daemonId"] = long, long, long },
		"any timestamp":          func(f map[string]any) { f["timestamp"] = "yesterday" },
		"a fractional priority":  func(f map[string]any) { f["priority"] = 1.9 },
		"a negative priority":    func(f map[string]any) { f["priority"] = -4 },
		"an id with odd letters": func(f map[string]any) { f["id"], f["orchestratorId"] = "a/b.c *>", "ü 😀" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := event.Parse(encode(t, mutate), event.DefaultMaxBytes)
			require.NoError(t, err)
		})
	}
}

// A publisher that writes a number for a timestamp lost each of its events to the
// dead letters.
func TestAnOptionalFieldOfAnotherTypeDoesNotCostTheEvent(t *testing.T) {
	t.Parallel()
	want, err := event.Parse(encode(t, func(f map[string]any) { keep(f, "id", "type", "orchestratorId", "payload") }), event.DefaultMaxBytes)
	require.NoError(t, err)
	for _, name := range event.Optional {
		values := []any{map[string]any{}, []int{1}, 1732291200000, "x", true}
		for _, value := range values {
			e, err := event.Parse(encode(t, func(f map[string]any) {
				keep(f, "id", "type", "orchestratorId", "payload")
				f[name] = value
			}), event.DefaultMaxBytes)
			require.NoError(t, err, "%s: %v", name, value)
			switch {
			case name == "requiresAck" && value == true:
				require.True(t, e.RequiresAck)
			case name[0] != 'r' && name[0] != 'p' && value == "x":
			default:
				require.Equal(t, []string{name}, e.LeftOut, "%v", value)
				e.LeftOut = nil
				require.Equal(t, want, e, "%s: %v", name, value)
			}
		}
	}
}

func TestPriorityIsTruncated(t *testing.T) {
	t.Parallel()
	e, err := event.Parse(encode(t, func(f map[string]any) { f["priority"] = 2.9 }), event.DefaultMaxBytes)
	require.NoError(t, err)
	require.Equal(t, 2, e.Priority)
}

func TestWhatIsRefusedAndWhy(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", protocol.MaxIDBytes+1)
	set := func(name string, value any) func(map[string]any) {
		return func(f map[string]any) { f[name] = value }
	}
	remove := func(name string) func(map[string]any) { return func(f map[string]any) { delete(f, name) } }
	for name, tt := range map[string]struct {
		mutate func(map[string]any)
		reason event.Reason
		field  string
	}{
		"no id":                        {remove("id"), event.ReasonMissingField, "id"},
		"id null":                      {set("id", nil), event.ReasonMissingField, "id"},
		"id empty":                     {set("id", ""), event.ReasonMissingField, "id"},
		"id a number":                  {set("id", 7), event.ReasonInvalidField, "id"},
		"id too long":                  {set("id", long), event.ReasonInvalidField, "id"},
		"no orchestrator":              {remove("orchestratorId"), event.ReasonMissingField, "orchestratorId"},
		"orchestrator in another case": {func(f map[string]any) { delete(f, "orchestratorId"); f["orchestratorid"] = "x" }, event.ReasonMissingField, "orchestratorId"},
		"orchestrator an object":       {set("orchestratorId", map[string]any{}), event.ReasonInvalidField, "orchestratorId"},
		"orchestrator too long":        {set("orchestratorId", long), event.ReasonInvalidField, "orchestratorId"},
		"no type":                      {remove("type"), event.ReasonMissingField, "type"},
		"type of one word":             {set("type", "message"), event.ReasonInvalidField, "type"},
		"type of three words":          {set("type", "a.b.c"), event.ReasonInvalidField, "type"},
		"type a pattern":               {set("type", "message.*"), event.ReasonInvalidField, "type"},
		"type a list":                  {set("type", []string{"a.b"}), event.ReasonInvalidField, "type"},
		"type too long":                {set("type", long+".x"), event.ReasonInvalidField, "type"},
		"daemon a number":              {set("daemonId", 1), event.ReasonInvalidField, "daemonId"},
		"daemon too long":              {set("daemonId", long), event.ReasonInvalidField, "daemonId"},
		"no payload":                   {remove("payload"), event.ReasonMissingField, "payload"},
		"payload null":                 {set("payload", nil), event.ReasonMissingField, "payload"},
		"payload a list":               {set("payload", []int{1}), event.ReasonInvalidField, "payload"},
		"payload a text":               {set("payload", "{}"), event.ReasonInvalidField, "payload"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := event.Parse(encode(t, tt.mutate), event.DefaultMaxBytes)
			var invalid *event.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, tt.reason, invalid.Reason)
			require.Equal(t, tt.field, invalid.Field)
			require.Contains(t, err.Error(), tt.field)
		})
	}
}

func TestWholeTextIsRefused(t *testing.T) {
	t.Parallel()
	for text, reason := range map[string]event.Reason{
		"":                    event.ReasonNotJSON,
		"hello":               event.ReasonNotJSON,
		"null":                event.ReasonNotJSON,
		"[]":                  event.ReasonNotJSON,
		`"event"`:             event.ReasonNotJSON,
		`{"id":"e"`:           event.ReasonNotJSON,
		`{} {}`:               event.ReasonNotJSON,
		"{\"id\":\"\xff\"}":   event.ReasonInvalidUTF8,
		"{\"a\":\"\xc3\x28\"": event.ReasonInvalidUTF8,
		`{"priority":1e999}`:  event.ReasonMissingField,
		`{}`:                  event.ReasonMissingField,
	} {
		_, err := event.Parse([]byte(text), event.DefaultMaxBytes)
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid, "%q", text)
		require.Equal(t, reason, invalid.Reason, "%q", text)
	}
}

func TestSizeLimitIsExact(t *testing.T) {
	t.Parallel()
	data := encode(t, func(map[string]any) {})
	_, err := event.Parse(data, len(data))
	require.NoError(t, err)
	_, err = event.Parse(data, len(data)-1)
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, event.ReasonTooLarge, invalid.Reason)
}

func TestRefusalHoldsWhatCouldBeRead(t *testing.T) {
	t.Parallel()
	_, err := event.Parse([]byte(`{"type":7,"id":"e","orchestratorId":"o","daemonId":"d","payload":{"a":1}}`), event.DefaultMaxBytes)
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, event.Event{ID: "e", OrchestratorID: "o", DaemonID: "d", Payload: []byte(`{"a":1}`)}, invalid.Event)
}

func TestRefusalQuotesLittle(t *testing.T) {
	t.Parallel()
	_, err := event.Parse(encode(t, func(f map[string]any) { f["payload"] = strings.Repeat("ü", 5000) }), event.DefaultMaxBytes)
	require.Error(t, err)
	require.Less(t, len(err.Error()), 200)
	require.NotContains(t, err.Error(), "\uFFFD")
}

// payloads are objects that a round through encoding/json would change.
var payloads = []string{
	"{}", "{ }", "{\n\t\"a\" : 1 ,\r\n \"b\":[ ]\n}", `{"html":"<b>&amp;</b>"}`, `{"u":"\u00fc\/ü😀` + "\u2028\u2029" + `"}`,
	`{"n":1.0,"big":12345678901234567890123,"e":1E+2}`, `{"a":1,"a":2}`, `{"nul":"\u0000"}`,
}

// Invariant: the payload stays byte for byte what was published.
func TestPayloadIsKeptByteForByte(t *testing.T) {
	t.Parallel()
	for _, payload := range payloads {
		text := `{"id":"e", "payload" : ` + payload + ` , "type":"a.b","orchestratorId":"o"}`
		e, err := event.Parse([]byte(text), event.DefaultMaxBytes)
		require.NoError(t, err)
		require.Equal(t, payload, string(e.Payload))

		written, err := e.MarshalJSON()
		require.NoError(t, err)
		require.Contains(t, string(written), `"payload":`+payload+`}`)
		again, err := event.Parse(written, event.DefaultMaxBytes)
		require.NoError(t, err)
		require.Equal(t, e, again)
	}
}

func TestEventDoesNotShareTheMemoryItWasReadFrom(t *testing.T) {
	t.Parallel()
	data := []byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":{"x":1}}`)
	e, err := event.Parse(data, event.DefaultMaxBytes)
	require.NoError(t, err)
	clear(data)
	require.Equal(t, event.Event{ID: "e", Type: "a.b", OrchestratorID: "o", Payload: []byte(`{"x":1}`)}, e)
}

func TestOfAFieldGivenTwiceTheLastCounts(t *testing.T) {
	t.Parallel()
	e, err := event.Parse([]byte(`{"id":"x","orchestratorId":"x","payload":[],"type":"a.b",
		"id":"e","orchestratorId":"o","payload":{"n": 1}}`), event.DefaultMaxBytes)
	require.NoError(t, err)
	require.Equal(t, event.Event{ID: "e", Type: "a.b", OrchestratorID: "o", Payload: []byte(`{"n": 1}`)}, e)
}

func TestDeepNestingIsRefusedOrCarried(t *testing.T) {
	t.Parallel()
	for depth, want := range map[int]bool{100: true, 20_000: false} {
		deep := `{"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
		e, err := event.Parse([]byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":`+deep+`}`), event.DefaultMaxBytes)
		if want {
			require.NoError(t, err)
			require.Equal(t, deep, string(e.Payload))
			continue
		}
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, event.ReasonNotJSON, invalid.Reason)
	}
}

func TestWrittenEventIsReadBack(t *testing.T) {
	t.Parallel()
	e := event.Event{
		ID: "<e>", Type: "a.b", OrchestratorID: "ö", DaemonID: "d", Payload: []byte(`{"x": 1}`),
		Timestamp: "t", WorkspaceID: "w", ChannelID: "c", RequiresAck: true, Priority: -2,
		Trace: &event.TraceContext{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Tracestate: "a=b"},
	}
	data, err := e.MarshalJSON()
	require.NoError(t, err)
	got, err := event.Parse(data, event.DefaultMaxBytes)
	require.NoError(t, err)
	require.Equal(t, e, got)
	_, err = event.Event{ID: "e", Payload: []byte(`{`)}.MarshalJSON()
	require.ErrorContains(t, err, "not valid JSON")
}

func TestReasonsAreWordsOfASubject(t *testing.T) {
	t.Parallel()
	seen := map[event.Reason]bool{}
	for _, r := range event.Reasons {
		require.Equal(t, string(r), string(event.TokenOf(r)))
		require.False(t, seen[r])
		seen[r] = true
	}
}

func FuzzParse(f *testing.F) {
	for _, payload := range payloads {
		f.Add([]byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":` + payload + `,"priority":1.5,"requiresAck":true}`))
	}
	f.Add([]byte(`{"id":7,"payload":[]}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := event.Parse(data, 1<<16)
		if err != nil {
			var invalid *event.InvalidError
			require.True(t, errors.As(err, &invalid))
			require.Contains(t, event.Reasons, invalid.Reason)
			quotetest.RequireLittle(t, data, invalid)
			return
		}
		require.Contains(t, string(data), string(e.Payload))
		require.NoError(t, e.OrchestratorID.Validate())
		written, err := e.MarshalJSON()
		require.NoError(t, err)
		again, err := event.Parse(written, 1<<20)
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}

func encode(t *testing.T, mutate func(map[string]any)) []byte {
	t.Helper()
	fields := valid()
	mutate(fields)
	data, err := json.Marshal(fields)
	require.NoError(t, err)
	return data
}

func keep(fields map[string]any, names ...string) {
	kept := map[string]any{}
	for _, name := range names {
		kept[name] = fields[name]
	}
	clear(fields)
	for name, value := range kept {
		fields[name] = value
	}
}

// inngest/inngest#4058, KickEngineering/KickDevDocs#304, NousResearch/hermes-agent#101666: whoever
// reads JSON and writes it again rounds large numbers, escapes other letters, and fails over half an
// emoji, as JavaScript leaves it where it cuts a text.
func TestAPayloadIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	const payload = `{"id":616581622363398142,"price":1.10,"html":"<a&b>\u0026","cut":"\ud83d","twice":1,"twice":2,"zero":"\u0000"}`
	e, err := event.Parse([]byte(`{"id":"e","type":"message.received","orchestratorId":"vp","payload":`+payload+`}`), event.DefaultMaxBytes)
	require.NoError(t, err)
	require.Equal(t, payload, string(e.Payload))
	text, err := e.MarshalJSON()
	require.NoError(t, err)
	require.Contains(t, string(text), payload)
}
