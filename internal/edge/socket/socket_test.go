package socket

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a Frame's text.
type text string

func (t text) AppendText(b []byte) ([]byte, error) { return append(b, t...), nil }

func frame(s string, priority int) Frame {
	return Frame{Text: text(s), Size: len(s), Priority: priority}
}

// peer records what a socket tells its handler.
type peer struct {
	socket   *Socket
	messages chan string
	refused  chan int
	written  chan []Frame
	answered chan [2]uint64
	ending   chan Ending
	ended    func()
	echo     bool
}

func (p *peer) Message(data []byte) {
	if string(data) == "panic" {
		panic("over a message")
	}
	if p.echo {
		p.socket.Send([]byte("echo " + string(data)))
		return
	}
	p.messages <- string(data)
}

func (p *peer) Refused(code int, problem string) {
	p.socket.Send([]byte("refused: " + problem))
	p.refused <- code
}

func (p *peer) Written(frames []Frame) { p.written <- frames }

func (p *peer) Answered(run uint32, sequence uint64) { p.answered <- [2]uint64{uint64(run), sequence} }

func (p *peer) Ended(e Ending) {
	p.ending <- e
	p.ended()
}

// countingListener counts the writes on the connections it accepts.
type countingListener struct {
	net.Listener
	writes *atomic.Int64
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c, l.writes}, nil
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

type fixture struct {
	url    string
	peers  chan *peer
	writes atomic.Int64
}

func defaults() Config {
	return Config{
		MaxMessageBytes: 1024, WriteTimeout: testserver.Patience, CloseTimeout: 5 * time.Second, MaxReplies: 8, MaxReplyBytes: 1 << 20,
		Go: (*lifecycle.Crew)(nil).Go, Panicked: func(value any) { panic(value) },
	}
}

func start(t *testing.T, cfg Config, echo bool) *fixture {
	t.Helper()
	return startOn(t, cfg, echo, func(l net.Listener, _ *fixture) net.Listener { return l })
}

// countingWrites makes connections that have no descriptor for a socket, as TLS.
func countingWrites(l net.Listener, f *fixture) net.Listener { return countingListener{l, &f.writes} }

func startOn(t *testing.T, cfg Config, echo bool, wrap func(net.Listener, *fixture) net.Listener) *fixture {
	t.Helper()
	f := &fixture{peers: make(chan *peer, 16)}
	var serving sync.WaitGroup
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := Accept(w, r, cfg)
		if err != nil {
			return
		}
		serving.Add(1)
		p := &peer{
			socket: s, messages: make(chan string, 64), refused: make(chan int, 1), written: make(chan []Frame, 64), answered: make(chan [2]uint64, 64),
			ending: make(chan Ending, 1), ended: serving.Done, echo: echo,
		}
		s.Serve(p)
		f.peers <- p
	}))
	require.NoError(t, srv.Listener.Close())
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	srv.Listener = wrap(listener, f)
	srv.Start()
	f.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		serving.Wait()
	})
	return f
}

func (f *fixture) dial(t *testing.T) (*websocket.Conn, *peer) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), f.url, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn, <-f.peers
}

const upgradeRequest = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"

// dialRaw upgrades by hand, so that a test can write any bytes, or read none.
func (f *fixture) dialRaw(t *testing.T, ahead string) (net.Conn, *bufio.Reader, *peer) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, upgradeRequest+ahead)
	require.NoError(t, err)
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	return conn, br, <-f.peers
}

// A client that offers subprotocols refuses a server that chooses none
// (websockets/ws#1862), and Node's server chooses the first.
func TestTheFirstSubprotocolThatIsOfferedIsChosen(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), true)
	for name, tt := range map[string]struct {
		offered []string
		want    string
	}{
		"none":             {nil, ""},
		"one":              {[]string{"neolith.v1"}, "neolith.v1"},
		"several":          {[]string{"neolith.v2", "neolith.v1"}, "neolith.v2"},
		"a list":           {[]string{"bearer, token"}, "bearer"},
		"nothing":          {[]string{""}, ""},
		"nothing at first": {[]string{"", " a"}, "a"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url, nil)
		require.NoError(t, err)
		request.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
			"Sec-Websocket-Protocol": tt.offered,
		}
		answer, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(t, err, name)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode, name)
		require.Equal(t, tt.want, answer.Header.Get("Sec-WebSocket-Protocol"), name)
		<-f.peers
	}
}

// Node's servers take HTTP/1.0, as nginx speaks it to its servers unless it is told
// otherwise, and version 8 of the protocol, whose frames are the same.
func TestOlderHandshakesAreTaken(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), true)
	for name, request := range map[string]string{
		"HTTP/1.0":  "GET / HTTP/1.0\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
		"version 8": "GET / HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nSec-WebSocket-Version: 8\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		require.NoError(t, err)
		_, err = io.WriteString(conn, request+"Upgrade: websocket\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
		require.NoError(t, err)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 101 Switching Protocols", answer.Proto+" "+answer.Status, name)
		require.Equal(t, "Upgrade", answer.Header.Get("Connection"), name)
		<-f.peers
		require.NoError(t, conn.Close())
	}
}

// What is no frame ends the connection with the code for it, and is recorded so; a
// frame without a mask was cut off, which looked like a network that fails.
func TestWhatIsNoFrameIsToldAndRecorded(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	for name, sent := range map[string]string{
		"no mask":        "\x81\x02ab",
		"a reserved bit": masked(0x40|opText, "a"),
		"an opcode":      masked(7, "a"),
		"a continuation": masked(0, "a"),
	} {
		conn, br, p := f.dialRaw(t, sent)
		frame := make([]byte, 4)
		_, err := io.ReadFull(br, frame)
		require.NoError(t, err, name)
		require.Equal(t, []byte{0x88, frame[1], 0x03, 0xea}, frame, name)
		require.Equal(t, CodeProtocolError, <-p.refused, name)
		require.NoError(t, conn.Close())
		ending := <-p.ending
		require.Equal(t, CodeProtocolError, ending.Code, name)
		require.False(t, ending.ByPeer, name)
	}
}

// masked is a client's frame with an all-zero mask.
func masked(opcode byte, payload string) string {
	switch n := len(payload); {
	case n < 126:
		return string([]byte{0x80 | opcode, 0x80 | byte(n), 0, 0, 0, 0}) + payload
	default:
		head := binary.BigEndian.AppendUint16([]byte{0x80 | opcode, 0x80 | 126}, uint16(n))
		return string(append(head, 0, 0, 0, 0)) + payload
	}
}

const opText, opPing = 1, 9

func readText(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	_, data, err := conn.Read(t.Context())
	require.NoError(t, err)
	return string(data)
}

func TestWhatWasReadAheadAtTheHijackIsKept(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	_, _, p := f.dialRaw(t, masked(opText, "early")+masked(opText, strings.Repeat("x", 700)))
	require.Equal(t, "early", <-p.messages)
	require.Equal(t, strings.Repeat("x", 700), <-p.messages)
}

func TestFramesThatWaitGoOutWithOneWrite(t *testing.T) {
	t.Parallel()
	f := startOn(t, defaults(), false, countingWrites)
	conn, p := f.dial(t)
	before := f.writes.Load()
	p.socket.SendEvents(frame("one", 0), frame("two", 0), frame(strings.Repeat("3", 5000), 0), frame("four", 0))
	for _, want := range []string{"one", "two", strings.Repeat("3", 5000), "four"} {
		require.Equal(t, want, readTextLarge(t, conn))
	}
	require.Len(t, <-p.written, 4)
	require.Equal(t, int64(1), f.writes.Load()-before)
}

func readTextLarge(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	conn.SetReadLimit(1 << 20)
	return readText(t, conn)
}

func TestRefusedFramesAreAnsweredBeforeTheClose(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		kind websocket.MessageType
		data string
		code int
	}{
		"over the limit by one byte": {websocket.MessageText, strings.Repeat("x", 1025), CodeTooBig},
		"far over the limit":         {websocket.MessageText, strings.Repeat("x", 1<<20), CodeTooBig},
		"binary":                     {websocket.MessageBinary, "{}", CodeUnsupportedData},
		"invalid UTF-8":              {websocket.MessageText, "{\"type\":\"\xff\"}", CodeInvalidPayload},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, defaults(), false)
			conn, p := f.dial(t)
			written := make(chan error, 1)
			go func() { written <- conn.Write(t.Context(), c.kind, []byte(c.data)) }()
			require.Contains(t, readText(t, conn), "refused: ")
			_, _, err := conn.Read(t.Context())
			require.Equal(t, websocket.StatusCode(c.code), websocket.CloseStatus(err))
			require.Equal(t, c.code, <-p.refused)
			require.Equal(t, c.code, (<-p.ending).Code)
			<-written
		})
	}
}

func TestAMessageOfExactlyTheLimitIsAccepted(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat("y", 1024))))
	require.Equal(t, strings.Repeat("y", 1024), <-p.messages)
}

func TestCloseSendsWhatWaitsAndTheCode(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	p.socket.Send([]byte("last words"))
	p.socket.Close(4006, "SESSION_TERMINATED")
	p.socket.Close(4001, "too late")
	require.Equal(t, "last words", readText(t, conn))
	_, _, err := conn.Read(t.Context())
	require.Equal(t, websocket.StatusCode(4006), websocket.CloseStatus(err))
	require.Equal(t, Ending{Code: 4006, Reason: "SESSION_TERMINATED"}, <-p.ending)
}

func TestThePeersCloseIsReported(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	require.NoError(t, conn.Close(websocket.StatusNormalClosure, "bye"))
	require.Equal(t, Ending{Code: CodeNormal, Reason: "bye", ByPeer: true}, <-p.ending)
}

// The library answers a close frame and closes at once; the answer used to be
// lost behind the cork when the writer was at work.
func TestThePeersCloseIsAnsweredWhileTheWriterGathers(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	at, release := make(chan struct{}), make(chan struct{})
	p.socket.SendEvents(Frame{Text: slowText{at, release}})
	<-at
	require.NoError(t, conn.Close(websocket.StatusNormalClosure, ""))
	close(release)
	require.Equal(t, Ending{Code: 1000, ByPeer: true}, <-p.ending)
}

// slowText is a frame whose text takes a while to make.
type slowText struct{ at, release chan struct{} }

func (s slowText) AppendText(b []byte) ([]byte, error) {
	close(s.at)
	<-s.release
	return append(b, "late"...), nil
}

func TestABrokenConnectionIsReported(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	require.NoError(t, conn.CloseNow())
	require.Equal(t, CodeAbnormal, (<-p.ending).Code)
}

// What crashes a peer may be the first of many, which the peer has not taken when it
// crashes: nobody would know that it has got that.
func TestFramesThatWentOutAreReportedThoughTheRestDidNot(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, br, p := f.dialRaw(t, "")
	p.socket.SendEvents(frame("culprit", 0), frame(strings.Repeat("z", 16<<20), 0), frame("behind", 0))
	_, err := io.ReadFull(br, make([]byte, len("??culprit")))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, conn.Close())
	require.Equal(t, CodeAbnormal, (<-p.ending).Code)
	require.Len(t, p.written, 1)
	written := <-p.written
	require.Len(t, written, 1)
	require.Equal(t, text("culprit"), written[0].Text)
}

func TestCloseEndsEvenIfThePeerNeverAnswers(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.CloseTimeout = 50 * time.Millisecond
	f := start(t, cfg, false)
	_, _, p := f.dialRaw(t, "")
	p.socket.Close(CodeGoingAway, "shutdown")
	require.Equal(t, CodeGoingAway, (<-p.ending).Code)
}

func TestAPeerThatReadsNothingIsCutOff(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.WriteTimeout = 100 * time.Millisecond
	f := start(t, cfg, false)
	_, _, p := f.dialRaw(t, "")
	big := strings.Repeat("z", 1<<20)
	for range 32 {
		p.socket.SendEvents(frame(big, 0))
	}
	require.Equal(t, Ending{Code: CodeAbnormal, Reason: ReasonStuck, ByPeer: true}, <-p.ending)
}

// tardyConn takes a few bytes of each write before the deadline passes.
type tardyConn struct {
	net.Conn
	takes int
	taken int
}

func (c *tardyConn) SetWriteDeadline(time.Time) error { return nil }

func (c *tardyConn) Write(p []byte) (int, error) {
	if n := min(c.takes, len(p)); n < len(p) {
		c.taken += n
		return n, os.ErrDeadlineExceeded
	}
	c.taken += len(p)
	return len(p), nil
}

// A window of events disappeared in the kernel's 4 MiB, and the peer counted as
// one that takes them.
func TestAPeerThatReadsNotEvenAWindowIsCutOff(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.WriteTimeout = 200 * time.Millisecond
	f := start(t, cfg, false)
	conn, _, p := f.dialRaw(t, "")
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	for range 10 {
		p.socket.SendEvents(frame(strings.Repeat("x", 100<<10), 0))
	}
	require.Equal(t, ReasonStuck, (<-p.ending).Reason)
}

// A peer that takes little by little is slow, not stuck.
func TestAPeerThatReadsSlowlyIsNotCutOff(t *testing.T) {
	t.Parallel()
	slow := &tardyConn{takes: 7}
	_, err := newCorkedConn(slow, nil, time.Second).Write([]byte(strings.Repeat("s", 3000)))
	require.NoError(t, err)
	require.Equal(t, 3000, slow.taken)

	stuck := &tardyConn{takes: 0}
	_, err = newCorkedConn(stuck, nil, time.Second).Write([]byte("s"))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// Without the bound on replies the reader would go on for as long as the peer
// sends, and the queue would grow without end (invariant 4).
func TestAFloodWithoutReadingStopsTheReader(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), true)
	conn, _, p := f.dialRaw(t, "")
	message := masked(opText, strings.Repeat("h", 1000))
	var err error
	for sent := 0; err == nil; sent += len(message) {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		_, err = io.WriteString(conn, message)
		require.Less(t, sent, 256<<20, "the reader never stopped")
	}
	p.socket.mu.Lock()
	waiting := len(p.socket.queue.replies)
	p.socket.mu.Unlock()
	require.LessOrEqual(t, waiting, defaults().MaxReplies)
}

func TestRepliesThatWaitAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.MaxReplies, cfg.MaxReplyBytes = 1<<20, 2*cfg.MaxMessageBytes
	s := newSocket(cfg)
	s.mu.Lock()
	s.writing = true // nothing is taken
	s.mu.Unlock()
	require.True(t, s.awaitRoom())
	s.Send(make([]byte, cfg.MaxReplyBytes-1))
	require.True(t, s.awaitRoom())
	s.Send([]byte("x"))
	read := make(chan bool)
	go func() { read <- s.awaitRoom() }()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.room != nil
	}, testserver.Patience, time.Millisecond, "reading pauses")
	s.mu.Lock()
	replies, _ := s.queue.take()
	s.roomLocked()
	s.mu.Unlock()
	require.Len(t, replies, 2)
	require.True(t, <-read)
}

func TestPingsOfAPeerThatReadsNothingAreBounded(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), true)
	conn, _, p := f.dialRaw(t, "")
	// The writer is busy, so pongs wait behind it.
	p.socket.SendEvents(frame(strings.Repeat("z", 32<<20), 0))
	require.Eventually(t, func() bool {
		p.socket.raw.mu.Lock()
		defer p.socket.raw.mu.Unlock()
		return p.socket.raw.state == flushing
	}, testserver.Patience, time.Millisecond)
	ping := strings.Repeat(masked(opPing, strings.Repeat("p", 125)), 100)
	var err error
	for sent := 0; err == nil; sent += len(ping) {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		_, err = io.WriteString(conn, ping)
		require.Less(t, sent, 256<<20, "the reader never stopped")
	}
	p.socket.raw.mu.Lock()
	defer p.socket.raw.mu.Unlock()
	require.LessOrEqual(t, p.socket.raw.pendingLocked(), maxPendingControl)
}

func TestPingFindsALivePeerAndLeavesASilentOneOpen(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	ctx := conn.CloseRead(t.Context())
	require.NoError(t, p.socket.Ping(t.Context()))
	require.NoError(t, ctx.Err())

	raw, _, silent := f.dialRaw(t, "")
	deadline, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, silent.socket.Ping(deadline))
	_, err := io.WriteString(raw, masked(opText, "still here"))
	require.NoError(t, err)
	require.Equal(t, "still here", <-silent.messages)
}

func TestPingsAreAnsweredBetweenLargeBatches(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	conn.SetReadLimit(1 << 20)
	const frames = 400
	go func() {
		for i := range frames {
			p.socket.SendEvents(frame(fmt.Sprintf("%04d%s", i, strings.Repeat("e", 3000)), 0))
		}
	}()
	pings := make(chan error, 1)
	go func() {
		for range 20 {
			if err := conn.Ping(t.Context()); err != nil {
				pings <- err
				return
			}
		}
		pings <- nil
	}()
	for i := range frames {
		require.Equal(t, fmt.Sprintf("%04d", i), readText(t, conn)[:4])
		<-flush(p)
	}
	go func() { _, _, _ = conn.Read(t.Context()) }()
	require.NoError(t, <-pings)
}

// flush empties what the handler was told, so that the writer never waits for
// this test.
func flush(p *peer) <-chan struct{} {
	done := make(chan struct{})
	for {
		select {
		case <-p.written:
		default:
			close(done)
			return done
		}
	}
}

// broken is a Frame's text that cannot be written.
type broken struct{}

func (broken) AppendText([]byte) ([]byte, error) { panic("over a frame") }

// Regression: what is done for a peer runs in goroutines of its own, where nobody
// recovered, so that a panic ended the program.
func TestAPanicEndsTheConnectionAlone(t *testing.T) {
	t.Parallel()
	for name, provoke := range map[string]func(*testing.T, *websocket.Conn, *peer){
		"reading the first message": func(t *testing.T, conn *websocket.Conn, _ *peer) {
			require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("panic")))
		},
		"reading a later message": func(t *testing.T, conn *websocket.Conn, p *peer) {
			require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("x")))
			<-p.messages
			require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("panic")))
		},
		"writing": func(_ *testing.T, _ *websocket.Conn, p *peer) {
			p.socket.SendEvents(frame("first", 0), Frame{Text: broken{}})
		},
		"closing while it writes": func(_ *testing.T, _ *websocket.Conn, p *peer) {
			p.socket.Send([]byte("reply"))
			p.socket.SendEvents(Frame{Text: broken{}})
			p.socket.Close(CodeGoingAway, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults()
			panics := make(chan any, 1)
			cfg.Panicked = func(value any) { panics <- value }
			f := start(t, cfg, false)
			conn, p := f.dial(t)
			other, q := f.dial(t)
			provoke(t, conn, p)
			if name != "closing while it writes" { // which may drop the event
				require.Contains(t, <-panics, "over a")
			}
			<-p.ending
			require.NoError(t, other.Write(t.Context(), websocket.MessageText, []byte("goes on")))
			require.Equal(t, "goes on", <-q.messages)
		})
	}
}
