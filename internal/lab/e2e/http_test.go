package e2e_test

import (
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"
)

// status is the HTTP status of a plain GET.
func (w *world) status(url string) int {
	w.t.Helper()
	return w.get(url, nil)
}

// upgrade is the HTTP status that a WebSocket handshake is answered with.
func (w *world) upgrade(url string) int {
	w.t.Helper()
	return w.get("http"+strings.TrimPrefix(url, "ws"), handshake())
}

// handshake is the header of a request for a WebSocket.
func handshake() http.Header {
	return http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}
}

func (w *world) get(url string, header http.Header) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url, nil)
	require.NoError(w.t, err)
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	require.NoError(w.t, resp.Body.Close())
	return resp.StatusCode
}
