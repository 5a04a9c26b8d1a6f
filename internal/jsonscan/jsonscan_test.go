package jsonscan_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/jsonscan"
)

// object reads an object; ok: without doubt.
func object(text string) (members map[string]string, ok bool) {
	c := jsonscan.Object([]byte(text))
	members = map[string]string{}
	for {
		name, value, more := c.Next()
		if !more {
			return members, c.Whole()
		}
		members[string(name)] = string(value)
	}
}

// array reads an array; ok: without doubt.
func array(text string) (elements []string, ok bool) {
	c := jsonscan.Array([]byte(text))
	for {
		_, value, more := c.Next()
		if !more {
			return elements, c.Whole()
		}
		elements = append(elements, string(value))
	}
}

// values are JSON of all kinds, as publishers write it.
var values = []string{
	`"text"`, `""`, `"ü😀"`, `"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"`, `"` + strings.Repeat("long ", 100) + `"`, "\"\u2028 \x7f\"",
	"true", "false", "null", "0", "-0", "7", "-12", "1.5", "0.001", "1e3", "1E+3", "-1.25e-07", "12345678901234567890",
	"{}", "{ }", "[]", "[ ]", `{"a":1}`, "{ \"a\" :\t[ 1 , {\"b\":{}} ]\r\n}", `[[],[{}],"]"]`, `{"\u0061":1,"a":1}`,
}

func TestJSONOfAllKindsIsReadWithoutDoubt(t *testing.T) {
	t.Parallel()
	for _, value := range values {
		require.True(t, json.Valid([]byte(value)))
		for _, space := range []string{"", " ", "\n\t\r "} {
			members, ok := object(space + "{" + space + `"first"` + space + ":" + space + value + space + `,"last":` + value + "}" + space)
			require.True(t, ok, value)
			require.Equal(t, map[string]string{"first": value, "last": value}, members)

			elements, ok := array(space + "[" + space + value + space + "," + value + "]" + space)
			require.True(t, ok, value)
			require.Equal(t, []string{value, value}, elements)
		}
	}
	members, ok := object("{}")
	require.True(t, ok)
	require.Empty(t, members)
}

func TestWhatIsDoubted(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", "tru", "nul", "truef", "True", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1a", "NaN", "--1",
		`"`, `"a`, `"\x"`, `"\u12g4"`, `"\u12"`, `"\`, "\"\n\"", "\"a\x00\"", `'a'`,
		"{", "[", "{]", "[}", "[1", "[1,", "[1,]", "[,]", "[1 2]", `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{1:1}`, `{,}`,
		"1 2", "{}{}", "\v1", "\ufeff1", "//", strings.Repeat("[", 70) + strings.Repeat("]", 70),
	} {
		_, ok := object(`{"a":` + value + `}`)
		require.False(t, ok, "%q", value)
		_, ok = array(`[` + value + `,1]`)
		require.False(t, ok, "%q", value)
	}
	for _, text := range []string{"", " ", "null", "1", "{", "}", "{}}", "{} x", "[]", `{"\u0061":1}`, `{"a":1`, `{"a":1,`, `{"a"`, "\ufeff{}"} {
		_, ok := object(text)
		require.False(t, ok, "%q", text)
	}
}

// Every length is tried, and every place, because eight bytes are read at once.
func TestWhatEndsAStringIsFoundWhereverItStands(t *testing.T) {
	t.Parallel()
	for length := range 40 {
		for place := range length {
			for _, special := range []byte{0, 1, '\n', ' ' - 1, '"', '\\'} {
				text := []byte(`{"a":"` + strings.Repeat("\x7f\xc3\xbc!", 10)[:length] + `"}`)
				text[len(`{"a":"`)+place] = special
				_, ok := object(string(text))
				require.Equal(t, special == '\\' && json.Valid(text), ok, "%q", text)
			}
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{`""`: "", `"a b"`: "a b", `"ü"`: "ü"} {
		text, ok := jsonscan.Text([]byte(value))
		require.True(t, ok)
		require.Equal(t, want, string(text))
	}
	for _, value := range []string{"", `"`, "1", "null", `"\n"`, "{}"} {
		_, ok := jsonscan.Text([]byte(value))
		require.False(t, ok, value)
	}
}

// The law of the package.
func FuzzWhatIsReadWithoutDoubtEncodingJSONReadsAlike(f *testing.F) {
	for _, value := range values {
		f.Add(`{"first":` + value + ` , "last":` + value + `}`)
		f.Add(`[` + value + ` , ` + value + `]`)
	}
	f.Add(`{"a":1,"a":2}`)
	f.Fuzz(func(t *testing.T, text string) {
		if members, ok := object(text); ok {
			var want map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(text), &want))
			require.Len(t, members, len(want))
			for name, value := range want {
				// A name that is not UTF-8 is another one there.
				if got, ok := members[name]; ok || !strings.Contains(name, "\uFFFD") {
					require.Equal(t, string(value), got)
				}
			}
		}
		if elements, ok := array(text); ok {
			var want []json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(text), &want))
			require.Len(t, elements, len(want))
			for i, value := range want {
				require.Equal(t, string(value), elements[i])
			}
		}
	})
}
