package admin_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only Linux has all of 127.0.0.0/8 on its loopback interface.
func TestIdleConnectionsKeepNoProbeOut(t *testing.T) {
	t.Parallel()
	base := start(t)
	for range 300 {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")); err == nil { // else it was refused as fast
			defer func() { _ = conn.Close() }()
		}
	}
	// From the address of the idle ones nobody gets in; from another one does.
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Get(base + "/livez")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}
