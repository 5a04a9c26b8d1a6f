package event_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// usual is an event as Neolith publishes it, of about 420 bytes.
var usual = fmt.Appendf(nil, `{"id":"event_1732291200000_6f9619ff","type":"message.received","daemonId":"","orchestratorId":"clx1q2w3e4r5t6y7",`+
	`"payload":{"messageId":"m-17","content":%q,"mentions":[{"id":7,"urgent":true}]},`+
	`"timestamp":"2026-11-22T10:00:00.000Z","workspaceId":"workspace-1","channelId":"channel-general","requiresAck":true,"priority":1}`,
	strings.Repeat("Could you have a look? ", 5))

// What the scanner leaves to parse is read as well as anything else; that usual
// events are not left to it is what makes the gateway quick.
func TestUsualEventsAreScanned(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"Neolith's":          string(usual),
		"one with spaces":    "\n{ \"id\" : \"e\" ,\t\"type\":\"a.b\", \"orchestratorId\":\"o\",\r\n \"payload\" : { } }\n",
		"one in UTF-8":       `{"id":"é","type":"a.b","orchestratorId":"ü 😀","payload":{"text":"日本語"}}`,
		"escapes in payload": `{"id":"e","type":"a.b","orchestratorId":"o","payload":{"text":"\"quoted\"\n\u00e9"}}`,
		"null as absent":     `{"id":"e","type":"a.b","orchestratorId":"o","payload":{},"daemonId":null,"timestamp":null,"requiresAck":null,"priority":null}`,
		"unknown fields":     `{"id":"e","type":"a.b","orchestratorId":"o","payload":{},"extra":[1,{"id":"x"}],"ID":7,"extra":2}`,
		"negative priority":  `{"id":"e","type":"a.b","orchestratorId":"o","payload":{},"priority":-3}`,
	} {
		require.True(t, event.Scanned([]byte(text), event.DefaultMaxBytes), name)
		requireAgreement(t, []byte(text), event.DefaultMaxBytes)
	}
}

func TestUnusualEventsAreLeftToParse(t *testing.T) {
	t.Parallel()
	with := func(fields string) string {
		return `{"id":"e","type":"a.b","orchestratorId":"o","payload":{},` + fields + `}`
	}
	for name, text := range map[string]string{
		"a field twice":          with(`"id":"f"`),
		"a field twice, null":    with(`"channelId":"c","channelId":null`),
		"an escape in a name":    with(`"pri\u006frity":7`),
		"an escape in an id":     `{"id":"\u0065","type":"a.b","orchestratorId":"o","payload":{}}`,
		"a fractional priority":  with(`"priority":1.0`),
		"a priority with powers": with(`"priority":1e3`),
		"a long priority":        with(`"priority":123456789`),
		"deep nesting":           with(`"extra":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)),
	} {
		_, err := event.Parse([]byte(text), event.DefaultMaxBytes)
		require.NoError(t, err, name)
		require.False(t, event.Scanned([]byte(text), event.DefaultMaxBytes), name)
		requireAgreement(t, []byte(text), event.DefaultMaxBytes)
	}
}

func TestEventReadInPlaceSharesThePayload(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"e", `\u0065`} { // scanned, and not
		data := []byte(`{"id":"` + id + `","type":"a.b","orchestratorId":"o","payload":{"x":1},"channelId":"c"}`)
		e, err := event.ParseInPlace(data, event.DefaultMaxBytes)
		require.NoError(t, err)
		require.Same(t, &data[strings.Index(string(data), `{"x"`)], &e.Payload[0])
		require.Equal(t, len(e.Payload), cap(e.Payload), "whoever appends does not write into the event")
		clear(data)
		require.Equal(t, []string{"e", "a.b", "o", "c"}, []string{e.ID, string(e.Type), string(e.OrchestratorID), e.ChannelID})
	}
}

func TestValidMeansTheOrchestratorOfTheToken(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"o", "a.b c", "ü", "=", "A_-9"} {
		data := fmt.Appendf(nil, `{"id":"e","type":"a.b","orchestratorId":"%s","payload":{}}`, id)
		token := event.TokenOf(id)
		require.True(t, event.Valid(data, event.DefaultMaxBytes, token), id)
		for _, other := range []event.Token{"", "x", token + "x", "x" + token, token[:len(token)-1], "=4F"} {
			require.False(t, event.Valid(data, event.DefaultMaxBytes, other), "%s %s", id, other)
		}
	}
	require.True(t, event.Valid(usual, len(usual), "clx1q2w3e4r5t6y7"))
	require.False(t, event.Valid(usual, len(usual)-1, "clx1q2w3e4r5t6y7"))
	require.False(t, event.Valid([]byte("{}"), event.DefaultMaxBytes, ""))
}

func TestScanningDoesNotAllocate(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !event.Valid(usual, event.DefaultMaxBytes, "clx1q2w3e4r5t6y7") {
			t.Error("not valid")
		}
	}))
	texts := 6.0 // each of its own
	require.Equal(t, texts, testing.AllocsPerRun(100, func() {
		_, _ = event.ParseInPlace(usual, event.DefaultMaxBytes)
	}))
}

// requireAgreement holds that it makes no difference who reads an event.
func requireAgreement(t *testing.T, data []byte, maxBytes int) {
	t.Helper()
	want, wantErr := event.ParseSlowly(data, maxBytes)
	for _, parse := range []func([]byte, int) (event.Event, error){event.Parse, event.ParseInPlace} {
		got, err := parse(data, maxBytes)
		require.Equal(t, wantErr, err)
		require.Equal(t, want, got)
	}
	require.False(t, wantErr != nil && event.Scanned(data, maxBytes), "the scanner takes what is refused")
	token := event.TokenOf(want.OrchestratorID)
	require.Equal(t, event.Scanned(data, maxBytes), event.Valid(data, maxBytes, token))
}

func FuzzScannerAndParserAgree(f *testing.F) {
	f.Add(usual)
	for _, payload := range payloads {
		f.Add([]byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":` + payload + `,"priority":1.5,"requiresAck":true}`))
		f.Add([]byte(`{"payload":` + payload + `,"id":"ü.","type":"a.b","orchestratorId":"o o","daemonId":null,"priority":-12,"requiresAck":false,"x":[` + payload + `]}`))
	}
	f.Add([]byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":{},"id":null,"timestamp":"\u0000","priority":-0}`))
	f.Add([]byte(`{"id":7,"payload":[]}`))
	f.Add([]byte("{\"id\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, data []byte) { requireAgreement(t, data, 1<<12) })
}

func BenchmarkParse(b *testing.B) {
	for _, bench := range []struct {
		name string
		read func() error
	}{
		{"encoding_json", func() error { _, err := event.ParseSlowly(usual, event.DefaultMaxBytes); return err }},
		{"Parse", func() error { _, err := event.Parse(usual, event.DefaultMaxBytes); return err }},
		{"ParseInPlace", func() error { _, err := event.ParseInPlace(usual, event.DefaultMaxBytes); return err }},
		{"Valid", func() error { event.Valid(usual, event.DefaultMaxBytes, "clx1q2w3e4r5t6y7"); return nil }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(usual)))
			for b.Loop() {
				if err := bench.read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
