package event_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// oddities are values of all kinds, good, doubtful and bad.
var oddities = []string{
	`"e"`, `""`, `"a.b"`, `"ü 😀"`, `"\u0065"`, `"\ud800"`, `"a\"b"`, `"` + strings.Repeat("x", 128) + `"`, `"` + strings.Repeat("x", 129) + `"`,
	"null", "true", "false", "0", "-0", "7", "-12", "12345678", "123456789", "1.0", "1e3", "1e999", "-", "01", "nul", "{}", "[]", "{", `{"a":1}`,
	`{ "a":[1,{"b":"\n"}], "a":null }`, `["x"]`, strings.Repeat("[", 62) + strings.Repeat("]", 62), strings.Repeat("[", 70) + strings.Repeat("]", 70),
}

// usually are values that make an event valid.
var usually = map[string]string{
	"id": `"e"`, "type": `"a.b"`, "orchestratorId": `"o"`, "payload": `{"text":"hello"}`, "daemonId": `"d"`, "workspaceId": `"w"`,
	"channelId": `"c"`, "timestamp": `"2026-11-22T10:00:00.000Z"`, "requiresAck": "true", "priority": "3",
	"traceparent": `"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"`, "tracestate": `"a=b"`,
}

// randomEvent is the text of an event in which something may be odd: a value,
// a name, a field too many or too few, or any byte.
func randomEvent() []byte {
	space := func() string { return []string{"", "", "", " ", "\n\t", "\r "}[rand.IntN(6)] }
	var members []string
	for name, value := range usually {
		if rand.IntN(12) == 0 {
			value = oddities[rand.IntN(len(oddities))]
		}
		switch rand.IntN(60) {
		case 0:
			continue
		case 1:
			members = append(members, `"`+name+`":`+oddities[rand.IntN(len(oddities))])
		case 2:
			name = strings.ToUpper(name)
		case 3:
			name = `\u00` + []string{"69", "70"}[rand.IntN(2)] + name[1:]
		}
		members = append(members, space()+`"`+name+`"`+space()+":"+space()+value+space())
	}
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	text := []byte(space() + "{" + strings.Join(members, ",") + "}" + space())
	if rand.IntN(3) > 0 {
		return text
	}
	const bytes = "\"\\{}[],:.-+0eEnt u\x00\x1f\x7f\xff\xc3"
	at := rand.IntN(len(text))
	switch rand.IntN(4) {
	case 0:
		text[at] = bytes[rand.IntN(len(bytes))]
	case 1:
		text = append(text[:at], text[at+1:]...)
	case 2:
		text = text[:at]
	default:
		text = append(text[:at], append([]byte{bytes[rand.IntN(len(bytes))]}, text[at:]...)...)
	}
	return text
}

// The fuzz test's law, on texts that are nearly events: few that a fuzzer makes
// up are.
func TestScannerAndParserAgreeOnRandomEvents(t *testing.T) {
	t.Parallel()
	scanned, valid, runs := 0, 0, budget.Runs(5_000, 2_000_000)
	for range runs {
		text := randomEvent()
		want, wantErr := event.ParseSlowly(text, 1<<20)
		got, err := event.ParseInPlace(text, 1<<20)
		require.Equal(t, wantErr, err, "%q", text)
		require.Equal(t, want, got, "%q", text)
		took := event.Scanned(text, 1<<20)
		require.Equal(t, took, event.Valid(text, 1<<20, event.TokenOf(want.OrchestratorID)), "%q", text)
		require.False(t, took && wantErr != nil, "%q", text)
		if took {
			scanned++
		}
		if wantErr == nil {
			valid++
		}
	}
	require.Greater(t, scanned, runs/10)
	require.Greater(t, valid, scanned)
	require.Less(t, valid, runs*9/10)
}
