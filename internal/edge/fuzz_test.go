package edge

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of the headers of a request only what a client has written itself counts.
func FuzzRequestHeaders(f *testing.F) {
	f.Add([]byte("GET /daemon/ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"))
	f.Add([]byte("GET /api/daemon/events?limit=1 HTTP/1.1\r\nHost: h\r\nAuthorization: bearer  a.b.c \r\n\r\n"))
	f.Add([]byte("DELETE /api/daemon/events HTTP/1.1\r\nHost: h\r\nAuthorization: Basic x\r\nAuthorization: Bearer y\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return // no request
		}
		token := bearerToken(r)
		require.Equal(t, strings.TrimSpace(token), token)
		if token != "" {
			first := r.Header["Authorization"][0]
			require.Equal(t, "bearer ", strings.ToLower(first[:len("bearer ")]))
			require.True(t, strings.HasSuffix(first, token))
		}
		if isUpgrade(r) {
			require.Contains(t, strings.ToLower(strings.Join(r.Header["Upgrade"], ",")), "websocket")
		}
	})
}
