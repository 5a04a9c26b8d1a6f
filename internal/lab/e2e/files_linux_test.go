package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

// paullouisageneau/libdatachannel#1321, python-websockets/websockets#822, gorilla/websocket#572: a server that
// has too many files open accepts nobody any more, also when it has room again.
func TestAnEdgeWithTooManyOpenFilesRecovers(t *testing.T) {
	t.Parallel()
	w := startWorld(t, func(cfg *cluster.Config) { cfg.Edges = 1 })
	p := w.populate(3)
	w.enter(p.everybody()...)
	p.publish(20)
	p.settle(everything)

	edge := w.Edges[0]
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", edge.ID()))
	require.NoError(t, err)
	limit := len(files) + 20
	require.NoError(t, exec.CommandContext(w.ctx, "prlimit", fmt.Sprintf("--pid=%d", edge.ID()), fmt.Sprintf("--nofile=%d:%d", limit, limit)).Run())
	var idle []net.Conn
	for range 60 {
		conn, err := net.Dial("tcp", host(edge)) // those that are not accepted wait with the system
		require.NoError(t, err)
		idle = append(idle, conn)
	}
	w.eventually(func() bool {
		text, err := os.ReadFile(edge.LogFile())
		return err == nil && strings.Contains(string(text), "too many open files, expected")
	}, "the edge does not say what it lacks")

	// Those who are there notice nothing.
	p.publish(20)
	p.settle(everything)

	for _, conn := range idle {
		require.NoError(t, conn.Close())
	}
	w.eventually(func() bool { return w.upgrade(edge.URL) == http.StatusSwitchingProtocols }, "nobody is let in")
	p.judge(everything)
}
