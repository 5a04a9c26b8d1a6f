package handshake

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// usual is what daemons send.
const usual = "GET /daemon/ws HTTP/1.1\r\nHost: gateway.example:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"

func TestWhatIsNotUsualIsLeftToTheServer(t *testing.T) {
	t.Parallel()
	replaced := func(old, by string) string { return strings.Replace(usual, old, by, 1) }
	for name, text := range map[string]string{
		"empty":                     "",
		"incomplete":                usual[:len(usual)-1],
		"another method":            replaced("GET", "POST"),
		"another version":           replaced("HTTP/1.1", "HTTP/1.0"),
		"no host":                   replaced("Host: gateway.example:8080\r\n", ""),
		"an empty host":             replaced("gateway.example:8080", ""),
		"two hosts":                 replaced("Upgrade:", "Host: other\r\nUpgrade:"),
		"no upgrade":                replaced("Upgrade: websocket\r\n", ""),
		"another upgrade":           replaced("websocket", "h2c"),
		"a body":                    replaced("Upgrade:", "Content-Length: 4\r\nUpgrade:"),
		"a body in chunks":          replaced("Upgrade:", "transfer-encoding: chunked\r\nUpgrade:"),
		"something expected":        replaced("Upgrade:", "Expect: 100-continue\r\nUpgrade:"),
		"a connection that ends":    replaced("Connection: Upgrade", "Connection: close, Upgrade"),
		"a folded header":           replaced("Upgrade:", " more\r\nUpgrade:"),
		"a name with a space":       replaced("Upgrade:", "Upgrade :"),
		"a line without a colon":    replaced("Upgrade:", "nothing\r\nUpgrade:"),
		"a control byte":            replaced("gateway.example", "gateway\x00example"),
		"a line feed alone":         replaced("\r\nUpgrade", "\nUpgrade"),
		"a whole URL":               replaced("/daemon/ws", "http://gateway/daemon/ws"),
		"a path that is escaped":    replaced("/daemon/ws", "/daemon/%77s"),
		"a path with an empty part": replaced("/daemon/ws", "//daemon/ws"),
		"a path with dots":          replaced("/daemon/ws", "/x/../daemon/ws"),
		"an empty query":            replaced("/daemon/ws", "/daemon/ws?"),
		"an escaped query":          replaced("/daemon/ws", "/daemon/ws?a=%20"),
		"bytes beyond ASCII":        replaced("client_max", "cli\xc3\xa9nt_max"),
	} {
		r, _ := parse(text)
		require.Nil(t, r, name)
	}
}

func TestWhatFollowsARequestIsNoPartOfIt(t *testing.T) {
	t.Parallel()
	r, length := parse(usual + "more")
	require.NotNil(t, r)
	require.Equal(t, len(usual), length)
	agrees(t, usual+"more", r)
}

// agrees checks that net/http reads the same request.
func agrees(t *testing.T, text string, got *http.Request) {
	t.Helper()
	want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	require.NoError(t, err, "%q", text)
	require.Equal(t, want.Method, got.Method)
	require.Equal(t, want.URL, got.URL)
	require.Equal(t, want.RequestURI, got.RequestURI)
	require.Equal(t, want.Host, got.Host)
	require.Equal(t, want.Header, got.Header)
	require.Equal(t, []any{want.Proto, want.ProtoMajor, want.ProtoMinor}, []any{got.Proto, got.ProtoMajor, got.ProtoMinor})
	require.Equal(t, want.ContentLength, got.ContentLength)
	require.Equal(t, want.Close, got.Close)
	require.Empty(t, got.TransferEncoding)
}

// The only mistake that parse can make is to read something in another way than
// net/http does.
func FuzzParseAgreesWithTheServer(f *testing.F) {
	for _, text := range []string{
		usual, usual + "frames", strings.ReplaceAll(usual, ": ", ":\t "), strings.Replace(usual, "/daemon/ws", "/daemon/ws?v=1&x=a+b", 1),
		strings.Replace(usual, "Upgrade:", "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nx-forwarded-for:192.0.2.3\r\nEmpty:\r\nUpgrade:", 1),
		strings.ToUpper(usual), strings.Replace(usual, "gateway.example:8080", "[::1]:8080", 1),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, length := parse(text)
		if r == nil {
			return
		}
		require.LessOrEqual(t, length, len(text))
		agrees(t, text, r)
	})
}
