package network_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// The test binary runs in three roles: the test, which starts itself within
// namespaces of their own; what the test does there; and a host of the network.
const role = "GATEWAY_NETWORK_TEST"

const (
	inside = "inside"
	echo   = "echo"
)

func TestMain(m *testing.M) {
	if os.Getenv(role) == echo {
		serveEcho(os.Args[len(os.Args)-1])
	}
	testserver.Main(m)
}

// serveEcho answers what comes over TCP and UDP, and prints what came.
func serveEcho(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		panic(err)
	}
	go func() {
		buffer := make([]byte, 100)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				panic(err)
			}
			fmt.Printf("udp %s\n", buffer[:n])
			_, _ = packets.WriteTo(buffer[:n], from)
		}
	}()
	fmt.Println("ready")
	conn, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Printf("tcp %s\n", lines.Text())
		_, _ = fmt.Fprintln(conn, lines.Text())
	}
	os.Exit(0)
}

func TestBetweenLeavesAHostsLinkToItselfOut(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, []network.Link{{From: "a", To: "b"}, {From: "a", To: "c"}, {From: "b", To: "c"}},
		network.Between([]network.Host{"a", "b"}, []network.Host{"b", "c"}))
}

func TestWithoutNamespacesOfItsOwnAProgramGetsNoNetwork(t *testing.T) {
	t.Parallel()
	_, err := network.New()
	require.Error(t, err)
}

// Where there can be no private network, Check has to say so; this test then
// has nothing more to show.
func TestACutSilencesOneDirectionAndLeavesTheOther(t *testing.T) {
	if os.Getenv(role) != inside {
		if err := network.Check(); err != nil {
			require.ErrorContains(t, err, "private network")
			return
		}
		runInside(t)
		return
	}
	n, err := network.New()
	require.NoError(t, err)
	ip, err := n.Add("host")
	require.NoError(t, err)
	h := startHost(t, n, net.JoinHostPort(ip, "7000"))
	there, back := network.Link{From: network.Outside, To: "host"}, network.Link{From: "host", To: network.Outside}

	h.send("1")
	h.hears("tcp 1", "udp 1")
	h.answers("1")

	require.NoError(t, n.Cut(there))
	h.send("2")
	h.staysSilent()
	require.NoError(t, n.Mend(there))
	h.hears("tcp 2") // TCP sends it again; the UDP packet is gone
	h.answersTCP("2")

	require.NoError(t, n.Cut(back, back))
	h.send("3")
	h.hears("tcp 3", "udp 3")
	h.staysSilent()
	require.NoError(t, n.MendAll())
	h.answersTCP("3")

	h.send("4")
	h.hears("tcp 4", "udp 4")
	h.answers("4")
	require.Error(t, n.Cut(network.Link{From: "host", To: "nobody"}))
}

// The kernel lets through no more than was said, so the least time that it takes
// is known, however fast or slow the machine is.
func TestANarrowLinkMakesWhatIsSentWait(t *testing.T) {
	if os.Getenv(role) != inside {
		if network.Check() == nil {
			runInside(t)
		}
		return
	}
	n, err := network.New()
	require.NoError(t, err)
	if err := n.CheckSlow(); err != nil {
		require.ErrorContains(t, err, "tc")
		return
	}
	ip, err := n.Add("host")
	require.NoError(t, err)
	require.NoError(t, n.Shallow("host", network.Sending))
	sizes, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", "host", "cat", "/proc/sys/net/ipv4/tcp_wmem").Output()
	require.NoError(t, err)
	require.Equal(t, []string{"4096", "16384", "16384"}, strings.Fields(string(sizes)))
	h := startHost(t, n, net.JoinHostPort(ip, "7000"))

	require.NoError(t, n.Narrow("host", 200))
	text := strings.Repeat("x", 60_000) // each way; 16 KiB of it at once
	began := time.Now()
	_, err = fmt.Fprintln(h.tcp, text)
	require.NoError(t, err)
	h.answersTCP(text)
	require.Greater(t, time.Since(began), time.Second)

	require.NoError(t, n.MendAll())
	for range 20 { // at 200 kbit/s this would take longer than a test may
		_, err = fmt.Fprintln(h.tcp, text)
		require.NoError(t, err)
		h.answersTCP(text)
	}
	require.Error(t, n.Narrow("nobody", 200))
}

// host is a host that echoes, as seen from Outside.
type host struct {
	t        *testing.T
	heard    <-chan string
	tcp, udp net.Conn
	replies  *bufio.Reader
}

func startHost(t *testing.T, n *network.Network, address string) *host {
	t.Helper()
	command := append(n.Command("host"), os.Args[0], address)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), role+"="+echo)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	heard := make(chan string, 100)
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			heard <- lines.Text()
		}
	}()
	h := &host{t: t, heard: heard}
	h.hears("ready")
	h.tcp, err = net.Dial("tcp", address)
	require.NoError(t, err)
	h.udp, err = net.Dial("udp", address)
	require.NoError(t, err)
	h.replies = bufio.NewReader(h.tcp)
	t.Cleanup(func() {
		_ = h.tcp.Close()
		_ = h.udp.Close()
		_ = cmd.Wait()
	})
	return h
}

func (h *host) send(text string) {
	h.t.Helper()
	_, err := fmt.Fprintln(h.tcp, text)
	require.NoError(h.t, err, "a cut is silent")
	_, err = fmt.Fprint(h.udp, text)
	require.NoError(h.t, err, "a cut is silent")
}

func (h *host) hears(lines ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), testserver.Patience)
	defer cancel()
	var heard []string
	for range lines {
		select {
		case line := <-h.heard:
			heard = append(heard, line)
		case <-ctx.Done():
			require.Fail(h.t, "nothing came", "heard %v, expected %v", heard, lines)
		}
	}
	require.ElementsMatch(h.t, lines, heard)
}

// staysSilent: nothing comes to us, nor to the host beyond what it has told.
func (h *host) staysSilent() {
	h.t.Helper()
	for _, conn := range []net.Conn{h.tcp, h.udp} {
		require.NoError(h.t, conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		_, err := conn.Read(make([]byte, 100))
		require.ErrorIs(h.t, err, os.ErrDeadlineExceeded)
		require.NoError(h.t, conn.SetReadDeadline(time.Time{}))
	}
	require.Empty(h.t, h.heard)
}

func (h *host) answers(text string) {
	h.t.Helper()
	h.answersTCP(text)
	buffer := make([]byte, 100)
	n, err := h.udp.Read(buffer)
	require.NoError(h.t, err)
	require.Equal(h.t, text, string(buffer[:n]))
}

func (h *host) answersTCP(text string) {
	h.t.Helper()
	line, err := h.replies.ReadString('\n')
	require.NoError(h.t, err)
	require.Equal(h.t, text, strings.TrimSpace(line))
}
