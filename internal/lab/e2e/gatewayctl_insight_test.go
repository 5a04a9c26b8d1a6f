package e2e_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

// page is what a node's admin port answers.
func (w *world) page(n *cluster.Node, method, path string) (status int, body string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.ctx, method, "http://"+n.AdminAddr+path, nil)
	require.NoError(w.t, err)
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	require.NoError(w.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return response.StatusCode, string(text)
}

// logs returns what nodes have logged.
func (w *world) logs(nodes ...*cluster.Node) (text string) {
	w.t.Helper()
	for _, n := range nodes {
		lines, err := os.ReadFile(n.LogFile())
		require.NoError(w.t, err)
		text += string(lines)
	}
	return text
}

var pageLink = regexp.MustCompile(`<a href="([^"]+)"`)

// Whoever looks for what is wrong has to see each node also while all servers that
// it needs are away.
func TestEachPageOfTheAdminPortAnswersWithoutNATSAndRedis(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(3)
	w.enter(p.everybody()...)
	look := func(away bool) {
		for _, n := range w.Nodes() {
			status, index := w.page(n, http.MethodGet, "/")
			require.Equal(t, http.StatusOK, status)
			links := pageLink.FindAllStringSubmatch(index, -1)
			require.Greater(t, len(links), 7, index)
			for _, link := range links {
				status, body := w.page(n, http.MethodGet, link[1])
				if link[1] != "/readyz" || !away {
					require.Equal(t, http.StatusOK, status, "%s %s", n.Name(), link[1])
				}
				require.NotContains(t, body, cluster.Secret)
				require.NotEmpty(t, body)
			}
		}
	}
	look(false)
	_, settings := w.page(w.Edges[0], http.MethodGet, "/settings")
	require.Contains(t, settings, "DAEMON_JWT_SECRET=***")
	_, members := w.page(w.Routers[0], http.MethodGet, "/members?orchestrator="+string(p.seats[0][0].Profile.Orchestrator))
	require.Contains(t, members, `"node": "edge-3"`)
	require.Contains(t, members, `"daemon": "`+string(p.seats[0][0].Profile.Daemon)+`"`)
	_, placed := w.page(w.Routers[0], http.MethodGet, "/partitions")
	require.Equal(t, partitions, strings.Count(placed, `"owner": "router-`))
	require.Contains(t, placed, `"lag": `)
	_, connected := w.page(w.Edges[0], http.MethodGet, "/connections")
	require.Contains(t, connected, `"state": "subscribed"`)
	status, body := w.page(w.Edges[0], http.MethodGet, "/connections?sort=nonsense")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "is no order")
	_, buffers := w.page(w.Bridges[0], http.MethodGet, "/buffers")
	require.Contains(t, buffers, `"subscribed": true`)

	// Standing still is worse than being gone.
	require.NoError(t, w.NATS[0].Pause())
	defer w.NATS[0].Resume()
	require.NoError(t, w.Redis.Pause())
	defer w.Redis.Resume()
	look(true)
	// Levels are changed all the same, and it is written down.
	status, _ = w.page(w.Routers[0], http.MethodPut, "/log-level?level=debug&for=1m&by=tester&because=tried")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, w.logs(w.Routers[0]), `"act":"operator_acted","reason":"log_level","level":"DEBUG"`)
}

type levelsOutput struct {
	Nodes []struct {
		Node    string
		Changes []struct {
			Level, Orchestrator string
			Until               time.Time
		}
	}
}

func (o levelsOutput) changed() (nodes []string) {
	for _, n := range o.Nodes {
		if len(n.Changes) > 0 {
			nodes = append(nodes, n.Node)
		}
	}
	return nodes
}

func TestOperatorsChangeLogLevelsForAWhile(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	show := func() levelsOutput { return decode[levelsOutput](t, w.ctl("log-level", "-o", "json")) }
	require.Len(t, show().Nodes, 7)
	require.Empty(t, show().changed())

	for want, args := range map[string][]string{
		"expected one of debug, info, warn, error": {"log-level", "loud"},
		"from 1s to 24h": {"log-level", "debug", "--for", "25h"},
	} {
		s := w.acts(args...)
		require.Equal(t, 2, s.code)
		require.Contains(t, s.err, want)
	}
	require.Equal(t, 2, w.ctl("log-level", "debug", "--yes").code, "without a reason")
	s := w.ctl("log-level", "debug", "--because", because, "--by", "tester")
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "Log at level debug for 10m0s, the whole node? [y/N]")
	require.Equal(t, 1, w.acts("log-level", "debug", "--node", "no-such-node").code)
	require.Empty(t, show().changed())

	require.Zero(t, w.acts("log-level", "debug", "--node", "edge-1,edge-2", "--orchestrator", "looked-at").code)
	require.Equal(t, []string{"edge-1", "edge-2"}, show().changed())
	require.Contains(t, w.ctl("log-level").out, "orchestrator looked-at")
	// Of that one, there is more to read: its connections end.
	for _, orchestrator := range []string{"looked-at", "another"} {
		ctx, leave := context.WithCancel(w.ctx)
		left := make(chan said, 1)
		go func() { left <- w.ctlAs(ctx, "connect", orchestrator, "--url", w.Edges[0].URL) }()
		w.eventually(func() bool {
			return decode[connectionsOutput](t, w.ctl("connections", "-o", "json", "--orchestrator", orchestrator)).Total == 1
		}, "it is connected")
		leave()
		<-left
		w.eventually(func() bool {
			return decode[connectionsOutput](t, w.ctl("connections", "-o", "json", "--orchestrator", orchestrator)).Total == 0
		}, "it is gone")
	}
	ended := regexp.MustCompile(`"msg":"connection ended".*"orchestrator":"([^"]+)"`)
	w.eventually(func() bool { return ended.MatchString(w.logs(w.Edges[0])) }, "its end is logged")
	for _, found := range ended.FindAllStringSubmatch(w.logs(w.Edges[0]), -1) {
		require.Equal(t, "looked-at", found[1])
	}
	require.Zero(t, w.acts("log-level", "reset", "--orchestrator", "looked-at").code)
	require.Empty(t, show().changed())

	// A short one ends by itself, and with a router and an edge killed the others heed
	// it.
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	w.eventually(func() bool {
		s = w.acts("log-level", "debug", "--for", "3s")
		return s.code == 0
	}, "it is done: %v", &s)
	require.Equal(t, []string{"bridge-1", "bridge-2", "edge-1", "edge-2", "router-2"}, decode[nodesOutput](t, w.ctl("nodes", "-o", "json")).names())
	w.eventually(func() bool { return len(show().changed()) == 0 }, "it goes back")
	lines := w.logs(w.Edges[0])
	require.Contains(t, lines, "log level is as before")
	require.Regexp(t, `"act":"operator_acted","reason":"log_level",.*"by":"tester","because":"`+because+`"`, lines)
	require.Contains(t, lines, `"reason":"log_level_reset"`)
}

type refusalsOutput struct {
	Refusals []struct {
		Act, Reason, Address, Orchestrator string
		Count                              int
		Nodes                              []string
	}
}

func TestOperatorsSeeWhoIsRefusedAndWhy(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	for _, orchestrator := range []string{"refused", "refused", "other"} {
		s := w.ctl("connect", orchestrator, "--token", "a.b.c", "--url", w.Edges[0].URL)
		require.Equal(t, 1, s.code, "%+v", s)
	}
	var all refusalsOutput
	w.eventually(func() bool {
		all = decode[refusalsOutput](t, w.ctl("refusals", "-o", "json"))
		return len(all.Refusals) == 2
	}, "both are told of: %v", &all)
	require.Equal(t, "refused", all.Refusals[0].Orchestrator)
	require.Equal(t, 2, all.Refusals[0].Count)
	require.Equal(t, []string{"edge-1"}, all.Refusals[0].Nodes)
	require.Equal(t, "token_refused", all.Refusals[0].Act)
	require.Equal(t, "127.0.0.1", all.Refusals[0].Address)
	for group, want := range map[string]int{"reason": 1, "address": 1, "orchestrator": 2} {
		grouped := decode[refusalsOutput](t, w.ctl("refusals", "-o", "json", "--group", group))
		require.Len(t, grouped.Refusals, want, group)
	}
	require.Equal(t, 2, w.ctl("refusals", "--group", "nonsense").code)
	require.Contains(t, w.ctl("refusals", "--limit", "1").out, "1 of 2; --limit shows more")

	// With a router and another edge killed it is seen as well, and watched.
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	ctx, stop := context.WithCancel(w.ctx)
	watched := make(chan said, 1)
	go func() {
		watched <- w.ctlAs(ctx, "refusals", "--watch", "--every", "500ms", "--timeout", "2s", "-o", "json")
	}()
	w.eventually(func() bool {
		return strings.Contains(w.ctl("refusals", "--timeout", "2s").out, "other")
	}, "it is seen")
	stop()
	require.Zero(t, (<-watched).code)
}

type balanceOutput struct {
	Sends int
	Edges []struct {
		Edge, Keeps        string
		Connections, Sends int
	}
}

func TestOperatorsBalanceEdgesNow(t *testing.T) {
	t.Parallel()
	w := startWorld(t, with(map[string]string{"BALANCE_MINIMUM": "1", "BALANCE_AFTER": "24h"}))
	p := w.populate(12)
	urls := []string{w.Edges[0].URL, w.Edges[1].URL, w.Edges[2].URL}
	for _, s := range p.everybody() {
		s.Profile.URLs = urls
	}
	w.enter(p.everybody()...)
	all := len(p.everybody())
	dry := func() balanceOutput { return decode[balanceOutput](t, w.ctl("balance", "--dry-run", "-o", "json")) }
	var planned balanceOutput
	w.eventually(func() bool {
		planned = dry()
		return len(planned.Edges) == 3 && planned.Edges[0].Sends > 0
	}, "the first edge would send some away: %v", &planned)
	require.Equal(t, planned.Sends, planned.Edges[0].Sends)
	require.NotEmpty(t, planned.Edges[1].Keeps)
	require.Equal(t, 2, w.ctl("balance", "--yes").code, "without a reason")
	s := w.ctl("balance", "--because", because, "--by", "tester")
	require.Equal(t, 1, s.code)
	require.Contains(t, s.err, "connections sent away? [y/N]")
	held := func(edge string) int {
		return decode[connectionsOutput](t, w.ctl("connections", "-o", "json", "--edge", edge)).Total
	}
	require.Equal(t, all, held("edge-1"))

	s = w.acts("balance")
	require.Zero(t, s.code, s.err)
	w.eventually(func() bool { return held("edge-1") <= all/2 && held("edge-1")+held("edge-2")+held("edge-3") == all },
		"the others have taken some, and nobody is lost")
	require.Regexp(t, `"reason":"balancing",.*"by":"tester","because":"`+because+`"`, w.logs(w.Edges[0]))

	w.Routers[0].Kill()
	w.Edges[2].Kill()
	w.eventually(func() bool { return len(dry().Edges) == 2 }, "those who are left answer")
}
