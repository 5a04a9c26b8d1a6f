package load

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo returns the client's side of a connection to a server that sends back what
// it reads, with a ping before each, which it awaits.
func echo(t *testing.T) *wire {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		c.SetReadLimit(1 << 20)
		reading := c.CloseRead
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(text) == "close" {
				_ = c.Close(4006, "as asked")
				return
			}
			if string(text) == "ping" {
				ctx := reading(r.Context())
				assert.NoError(t, c.Ping(ctx))
			}
			if c.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	to, err := url.Parse(server.URL)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", to.Host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	w := newWire(conn)
	require.NoError(t, w.upgrade(to))
	return w
}

func TestTextsOfAnyLengthGoToAServerAndBack(t *testing.T) {
	t.Parallel()
	w := echo(t)
	for _, n := range []int{0, 1, 125, 126, 3000, 1 << 16, 300_000} {
		want := strings.Repeat("x", n)
		require.NoError(t, w.write([]byte(want)))
		got, err := w.next()
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

func TestPingsAreAnswered(t *testing.T) {
	t.Parallel()
	w := echo(t)
	require.NoError(t, w.write([]byte("ping")))
	got, err := w.next()
	require.NoError(t, err)
	require.Equal(t, "ping", string(got))
}

func TestTheReasonOfACloseIsSaid(t *testing.T) {
	t.Parallel()
	w := echo(t)
	require.NoError(t, w.write([]byte("close")))
	_, err := w.next()
	require.ErrorContains(t, err, `4006 "as asked"`)
}

// What is said of a run depends on this count alone.
func TestADaemonCountsWhatIsRepeatedAndOutOfOrder(t *testing.T) {
	t.Parallel()
	d := &daemon{}
	var first []int64
	for _, n := range []int64{0, 1, 3, 2, 3, 200, 199, 0} {
		if d.first(n) {
			first = append(first, n)
		}
	}
	require.Equal(t, []int64{0, 1, 3, 2, 200, 199}, first)
	require.Equal(t, 2, d.repeated)
	require.Equal(t, 2, d.disordered)
}
