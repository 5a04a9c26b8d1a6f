package balancer

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// named answers every connection with its name, once it has been sent a line.
func named(t *testing.T, name string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				lines := bufio.NewReader(c)
				for {
					if _, err := lines.ReadString('\n'); err != nil {
						return
					}
					if _, err := io.WriteString(c, name+"\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func connect(t *testing.T, b *Balancer) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", b.Address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	_, err := io.WriteString(c, "who\n")
	require.NoError(t, err)
	answer, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return answer
}

func TestConnectionsGoToTheServerWithTheFewest(t *testing.T) {
	t.Parallel()
	one, two := named(t, "one"), named(t, "two")
	b, err := Start(one, two)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	first, second := connect(t, b), net.Conn(nil)
	require.Equal(t, "one\n", ask(t, first))
	second = connect(t, b)
	require.Equal(t, "two\n", ask(t, second))
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return b.Connections(one) == 0 }, testserver.Patience, time.Millisecond)
	require.Equal(t, "one\n", ask(t, connect(t, b)))
}

func TestAServerThatIsTakenOutGetsNoMoreConnections(t *testing.T) {
	t.Parallel()
	one, two := named(t, "one"), named(t, "two")
	b, err := Start(one, two)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	silent := connect(t, b)
	require.Eventually(t, func() bool { return b.Connections(one) == 1 }, testserver.Patience, time.Millisecond)
	short, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.TakeOut(short, one), context.Canceled, "it has not answered yet")
	require.Equal(t, "one\n", ask(t, silent))
	require.NoError(t, b.TakeOut(t.Context(), one))
	for range 3 {
		require.Equal(t, "two\n", ask(t, connect(t, b)))
	}
	require.Equal(t, "one\n", ask(t, silent), "what it has goes on")
	b.PutIn(one)
	require.Equal(t, "one\n", ask(t, connect(t, b)))
}
