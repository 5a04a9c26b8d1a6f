package socket

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the library or the socket has read ahead is no longer there to be waited
// for: it must not lie there until the peer says more.
func TestFramesAreReadHoweverTheyArrive(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long ", 8000)
	want := []string{"first", strings.Repeat("x", 700), "", "y", long, "last"}
	var text string
	for _, message := range want {
		text += masked(opText, message) + masked(opPing, "")
	}
	for kind, wrap := range map[string]func(net.Listener, *fixture) net.Listener{
		"with a descriptor": func(l net.Listener, _ *fixture) net.Listener { return l }, "without": countingWrites,
	} {
		for how, size := range map[string]int{"at once": len(text), "a byte at a time": 1, "by 7 bytes": 7, "by 4096": 4096, "by 4097": 4097} {
			t.Run(kind+", "+how, func(t *testing.T) {
				t.Parallel()
				cfg := defaults()
				cfg.MaxMessageBytes = 64 << 10
				conn, br, p := startOn(t, cfg, false, wrap).dialRaw(t, "")
				go func() {
					for rest := text; rest != ""; {
						n := min(size, len(rest))
						if _, err := io.WriteString(conn, rest[:n]); err != nil {
							return
						}
						rest = rest[n:]
					}
				}()
				for _, message := range want {
					require.Equal(t, message, <-p.messages)
					pong := make([]byte, 2)
					_, err := io.ReadFull(br, pong)
					require.NoError(t, err)
					require.Equal(t, []byte{0x8a, 0}, pong)
				}
			})
		}
	}
}

// connected returns the two ends of a connection.
func connected(t *testing.T) (peer, conn net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	peer, err = net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	conn, err = listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return peer, conn
}

func TestReadingDoesNotAllocate(t *testing.T) {
	peer, conn := connected(t)
	c := newCorkedConn(conn, nil, time.Second)
	text, read := []byte("some text that is longer than a header"), make([]byte, 100)
	require.Less(t, testing.AllocsPerRun(100, func() {
		_, _ = peer.Write(text)
		c.in.Wait()
		c.in.Fill()
		if n, err := c.Read(read); err != nil || n != len(text) {
			t.Error("not read", n, err)
		}
	}), 1.0)
}

func TestABufferIsHeldOnlyWhileSomethingIsReadAhead(t *testing.T) {
	t.Parallel()
	peer, conn := connected(t)
	c := newCorkedConn(conn, []byte("before"), time.Second)
	read := func(n int) string {
		text := make([]byte, n)
		got, err := c.Read(text)
		require.NoError(t, err)
		return string(text[:got])
	}
	require.Equal(t, "before", read(100))
	require.Nil(t, c.in.buffer)
	_, err := io.WriteString(peer, strings.Repeat("x", 50))
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("x", 40), read(40))
	require.NotNil(t, c.in.buffer)
	require.Equal(t, "x", read(libraryBuffer), "the library keeps nothing back")
	require.Equal(t, strings.Repeat("x", 9), read(100))
	require.Nil(t, c.in.buffer)

	require.NoError(t, peer.Close())
	c.in.Wait()
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, conn.Close())
	c.in.Wait()
	c.in.Fill()
	require.True(t, c.in.Holds(), "an error")
}
