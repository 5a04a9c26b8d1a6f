package intake

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who has a key keeps the connection, however many others come from that address.
func TestAConnectionThatIsUsedIsNotTheOneThatMakesRoom(t *testing.T) {
	t.Parallel()
	in := start(t, intoNothing, always, func(cfg *Config) { cfg.Access.MaxUnauthenticated = 2 })
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", in.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		return conn
	}
	used := dial()
	answers := bufio.NewReader(used)
	publish := func() {
		body := sample("1", "vp")
		_, err := fmt.Fprintf(used, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			pathEvents, key, len(body), body)
		require.NoError(t, err)
		response, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, errors.Join(err, response.Body.Close()))
		require.Equal(t, http.StatusOK, response.StatusCode)
	}
	publish()
	idle := dial()
	require.Eventually(t, func() bool { return in.access.Waiting() == 2 }, patience, look)
	publish()
	dial()
	_, err := idle.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	publish()
}
