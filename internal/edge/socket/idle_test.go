package socket

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

// deaf is a handler whose every message takes much stack, as a token does.
type deaf struct{ heard, ended chan struct{} }

func (d *deaf) Message([]byte) {
	_ = deep(40)
	d.heard <- struct{}{}
}
func (*deaf) Refused(int, string)     {}
func (*deaf) Written([]Frame)         {}
func (*deaf) Answered(uint32, uint64) {}
func (d *deaf) Ended(Ending)          { d.ended <- struct{}{} }

// deep uses some 10 KiB of stack.
func deep(n int) (sum byte) {
	var frame [256]byte
	if n > 0 {
		frame[n] = deep(n - 1)
	}
	for _, b := range frame {
		sum += b
	}
	return sum + byte(n)
}

// memory is what is in use after collections, in bytes: those of the heap, and of
// stacks.
func memory() (heap, stacks uint64) {
	var m runtime.MemStats
	for range 3 { // what has a finalizer is gone after the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse
}

// mostIdleStack is what an idle connection's stack may take.
var mostIdleStack = 3 << 10

// What a connection keeps while its peer says nothing decides how many an edge can
// hold (invariant 4). Its goroutine keeps the smallest stack there is, whatever was
// done on that of others before; and the heap no more than is counted here, the
// test's own side of the connection included. It is not parallel: it counts the
// memory of the process.
func TestAnIdleConnectionKeepsLittle(t *testing.T) {
	const connections, mostHeap = 400, 5000
	crew := &lifecycle.Crew{}
	defer crew.Dismiss()
	cfg := defaults()
	cfg.Go = crew.Go
	d := &deaf{heard: make(chan struct{}, connections), ended: make(chan struct{}, connections)}
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := Accept(w, r, cfg)
		if err != nil {
			panic(err)
		}
		s.Serve(d)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		_, err = io.WriteString(conn, upgradeRequest)
		require.NoError(t, err)
		_, err = http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		for range 3 {
			_, err = io.WriteString(conn, masked(opText, "hello"))
			require.NoError(t, err)
			<-d.heard
		}
		return conn
	}
	conns := []net.Conn{connect()} // what the first one needs, all share
	heap, stacks := memory()
	for range connections {
		conns = append(conns, connect())
	}
	heapWith, stacksWith := memory()
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	for range conns {
		<-d.ended
	}
	require.NoError(t, srv.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
	each := func(before, after uint64) float64 { return (float64(after) - float64(before)) / connections }
	t.Logf("%.0f bytes of heap, %.0f of stack", each(heap, heapWith), each(stacks, stacksWith))
	require.Less(t, each(heap, heapWith), float64(mostHeap), "bytes of heap")
	require.Less(t, each(stacks, stacksWith), float64(mostIdleStack), "bytes of stack")
}

// What an address hands on to what is accepted there is set for no connection by
// itself.
func TestWhatIsAcceptedHasABoundedBufferAndKeepsAlive(t *testing.T) {
	t.Parallel()
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	peer, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = peer.Close() }()
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		option := func(level, name int) int {
			value, err := syscall.GetsockoptInt(int(fd), level, name)
			require.NoError(t, err)
			return value
		}
		require.Contains(t, []int{sendBuffer, 2 * sendBuffer}, option(syscall.SOL_SOCKET, syscall.SO_SNDBUF))
		require.NotZero(t, option(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
		require.NotZero(t, option(syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
	}))
}
