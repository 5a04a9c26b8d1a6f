package access

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// oneByOne is a listener of the connections that come from a channel, until it is
// closed. Pipes have deadlines by the clock of a synctest bubble.
type oneByOne chan net.Conn

func (o oneByOne) Accept() (net.Conn, error) {
	if conn, ok := <-o; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (oneByOne) Close() error   { return nil }
func (oneByOne) Addr() net.Addr { return &net.TCPAddr{} }

// served has a bubble's server serve a connection, of which it returns the client's end.
func served(t *testing.T, handler http.HandlerFunc) net.Conn {
	t.Helper()
	server := NewServer(handler, 20*time.Second, 30*time.Second, nil, slog.New(slog.DiscardHandler), slog.LevelDebug)
	connections := make(oneByOne, 1)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(connections) }()
	client, theirs := net.Pipe()
	connections <- theirs
	t.Cleanup(func() {
		_ = client.Close()
		close(connections)
		<-ended
		_ = server.Close()
	})
	return client
}

// A request that is not finished, and a connection on which none comes, end in time.
func TestWhoDoesNotFinishARequestIsClosed(t *testing.T) {
	t.Parallel()
	reading := func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if err == nil {
			BodyTaken(w)
		}
	}
	const whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, test := range map[string]struct {
		sent string
		most time.Duration
	}{
		"nothing":               {"", 5 * time.Second},
		"half of the headers":   {whole[:len(whole)-2], 5 * time.Second},
		"half of the body":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf ", 20 * time.Second},
		"a request and no more": {whole, time.Minute},
		"a second one, by half": {whole + whole[:5], 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := served(t, reading)
				began := time.Now()
				if test.sent != "" {
					_, err := io.WriteString(client, test.sent)
					require.NoError(t, err)
				}
				_, _ = io.Copy(io.Discard, client) // until it is closed
				require.LessOrEqual(t, time.Since(began), test.most+time.Second)
			})
		})
	}
}

func TestHeadersAreReadUpToABound(t *testing.T) {
	t.Parallel()
	for size, status := range map[int]int{headerBytes / 2: http.StatusOK, 4 * headerBytes: http.StatusRequestHeaderFieldsTooLarge} {
		synctest.Test(t, func(t *testing.T) {
			client := served(t, func(http.ResponseWriter, *http.Request) {})
			go func() {
				_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nFiller: "+strings.Repeat("x", size)+"\r\n\r\n")
			}()
			in := bufio.NewReader(client)
			response, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			require.Equal(t, status, response.StatusCode)
			_, _ = io.Copy(io.Discard, in) // until it is closed
		})
	}
}
