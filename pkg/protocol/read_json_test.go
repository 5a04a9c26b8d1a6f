package protocol

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestValuesAreReadAlike(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `{"a":1,"b":[{}],"a":null}`, ` { "a" : "x" } `, `{"\u0061":1}`, `{"a":1,}`, `{"a"}`, `{`, ``, `null`, `7`, `true`,
		`[]`, ` [ 1 , "a", null, {"x":[]} ] `, `[1,]`, `[`, `"text"`, `""`, `"\u0065\n"`, `"ü"`, `"`, `-1.5e3`, `nul`,
	} {
		requireReadAlike(t, []byte(text))
	}
}

func requireReadAlike(t *testing.T, data []byte) {
	if !utf8.Valid(data) {
		return // refused before
	}
	want, wantProblem := unmarshalObject(data)
	got, problem := objectOf(data)
	require.Equal(t, wantProblem, problem, "%q", data)
	require.Equal(t, want, got, "%q", data)
	var raw []json.RawMessage
	if json.Unmarshal(append(append([]byte("["), data...), ']'), &raw) != nil {
		return // the others are given values
	}
	for _, value := range raw {
		wantText, wantIs := unmarshalText(value)
		text, is := textOf(value)
		require.Equal(t, wantIs, is, "%q", value)
		require.Equal(t, wantText, text, "%q", value)
		wantItems, wantIs := unmarshalList(value)
		items, is := listOf(value)
		require.Equal(t, wantIs, is, "%q", value)
		require.Len(t, items, len(wantItems), "%q", value)
		for i := range items {
			require.Equal(t, string(wantItems[i]), string(items[i]), "%q", value)
		}
	}
}

func FuzzValuesAreReadAlike(f *testing.F) {
	f.Add([]byte(`{"accessToken":"t","daemonId":"d","eventIds":["a",7,null],"a":{"b":[]}}`))
	f.Add([]byte(`["a","\u0065",[1,2],{"x":{}},-1.5e-3]`))
	f.Fuzz(requireReadAlike)
}

// What a client sends may not stay in the buffer that the next message is read
// into.
func TestAMessageSharesNoMemoryWithItsFrame(t *testing.T) {
	t.Parallel()
	data := []byte(`{"type":"heartbeat","id":"i","timestamp":"2026-11-22T10:00:00Z","payload":{"status":"busy","metrics":{"a":1},"inProgress":["e"]}}`)
	m, fault := ParseClientMessage(data)
	require.Nil(t, fault)
	clear(data)
	require.Equal(t, ClientMessage{TypeHeartbeat, "i", Heartbeat{StatusBusy, json.RawMessage(`{"a":1}`), []string{"e"}}}, m)
}

func TestReadingAHeartbeatAllocatesLittle(t *testing.T) {
	data, _, err := EncodeClientMessage(time.Now(), Heartbeat{Status: StatusBusy, Metrics: json.RawMessage(`{"errors":0,"uptimeSeconds":3600}`)})
	require.NoError(t, err)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = ParseClientMessage(data) }), 25.0)
}

func BenchmarkParseClientMessage(b *testing.B) {
	for _, payload := range []ClientPayload{
		Auth{AccessToken: strings.Repeat("token", 80), DaemonID: "6f9619ff-8b86-d011-b42d-00cf4fc964ff", OrchestratorID: "clx1q2w3e4r5t6y7"},
		Subscribe{EventTypes: []Pattern{"mention.*", "message.received", "task.*"}},
		Heartbeat{Status: StatusBusy, Metrics: json.RawMessage(`{"memoryUsageBytes":123456789,"uptimeSeconds":3600,"messagesSent":12,"messagesReceived":14,"errors":0}`)},
	} {
		data, _, err := EncodeClientMessage(time.Now(), payload)
		require.NoError(b, err)
		b.Run(string(payload.Type()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, fault := ParseClientMessage(data); fault != nil {
					b.Fatal(fault)
				}
			}
		})
	}
}
