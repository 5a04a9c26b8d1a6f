package e2e_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

var updateIncidents = flag.Bool("update-incidents", false, "write the outputs into docs/incidents.md")

const incidentsPage = "../../../docs/incidents.md"

// casebook is the page of incidents: each command on it stands in a block of its own
// with its output.
type casebook struct {
	t    *testing.T
	text string
}

func openCasebook(t *testing.T) *casebook {
	t.Helper()
	text, err := os.ReadFile(incidentsPage)
	require.NoError(t, err)
	return &casebook{t, string(text)}
}

// enter writes a command's output into its block, or requires that there is one.
func (c *casebook) enter(command string, s said) {
	c.t.Helper()
	opening := "```\n$ " + command + "\n"
	start := strings.Index(c.text, opening)
	require.GreaterOrEqual(c.t, start, 0, "docs/incidents.md lacks: %s", command)
	rest := c.text[start+len(opening):]
	end := strings.Index(rest, "```")
	require.GreaterOrEqual(c.t, end, 0)
	var output strings.Builder
	for line := range strings.Lines(s.out + s.err) {
		output.WriteString(folded(strings.TrimRight(line, " \n")) + "\n")
	}
	c.text = c.text[:start+len(opening)] + output.String() + rest[end:]
}

// folded is an error that is wrapped for the page.
func folded(line string) string {
	if !strings.HasPrefix(line, "gatewayctl: ") {
		return line
	}
	const width = 100
	var lines []string
	current := ""
	for _, word := range strings.Fields(line) {
		switch {
		case current == "":
			current = word
		case len(current)+1+len(word) > width:
			lines, current = append(lines, current), "  "+word
		default:
			current += " " + word
		}
	}
	return strings.Join(append(lines, current), "\n")
}

func (c *casebook) close() {
	if *updateIncidents {
		require.NoError(c.t, os.WriteFile(incidentsPage, []byte(c.text), 0o644))
	}
}

// investigator works on an incident, with the tool alone.
type investigator struct {
	*world
	book *casebook
}

// commandLine is a line as an operator types it.
func commandLine(args ...string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		if quoted[i] = arg; strings.ContainsAny(arg, " {\"") {
			quoted[i] = "'" + arg + "'"
		}
	}
	return "gatewayctl " + strings.Join(quoted, " ")
}

// sees calls the tool until its output has all of what an operator is to see, and
// enters it.
func (i investigator) sees(want []string, args ...string) said {
	i.t.Helper()
	var s said
	i.eventually(func() bool {
		s = i.ctl(args...)
		for _, w := range want {
			if !strings.Contains(s.out+s.err, w) {
				return false
			}
		}
		return true
	}, "%v shows %v: %v", args, want, &s)
	i.book.enter(commandLine(args...), s)
	return s
}

// does calls the tool for an act.
func (i investigator) does(why string, args ...string) {
	i.t.Helper()
	args = append(args, "--because", why, "--by", "jane", "--yes")
	var s said
	i.eventually(func() bool {
		s = i.ctl(args...)
		return s.code == 0
	}, "%v is done: %v", args, &s)
	i.book.enter(commandLine(args...), s)
}

// Each incident of docs/incidents.md happens to a real cluster, is found with the
// commands of that page, and ends. -update-incidents writes their outputs there.
func TestEachIncidentIsFoundAndEndedWithTheTool(t *testing.T) {
	t.Parallel()
	book := openCasebook(t)
	i := investigator{startWorld(t, with(map[string]string{"EVENTS_PER_ORCHESTRATOR": "1000"})), book}
	js := testserver.JetStream(t, i.NATSURL())
	i.eventually(func() bool { return i.ctl("status").code == 0 }, "the cluster is whole")
	i.stuckPartition(js)
	i.silentBridge()
	i.hotOrchestrator()
	i.wrongToken()
	i.misconfiguredNATS(js)
	investigator{startWorld(t, with(map[string]string{"MAX_DELIVERIES": "1", "ACK_TIMEOUT": "1s", "DUPLICATE_WINDOW": "2s"})), book}.poisonEvent()
	book.close()
}

// change edits a stream as somebody does who should not, and returns what takes that
// back.
func (i investigator) change(js jetstream.JetStream, p event.Partition, edit func(*jetstream.StreamConfig)) (back func()) {
	i.t.Helper()
	stream, err := js.Stream(i.ctx, event.StreamName(p))
	require.NoError(i.t, err)
	before := stream.CachedInfo().Config
	edited := before
	edit(&edited)
	_, err = js.UpdateStream(i.ctx, edited)
	require.NoError(i.t, err)
	return func() {
		_, err := js.UpdateStream(i.ctx, before)
		require.NoError(i.t, err)
	}
}

func (i investigator) stuckPartition(js jetstream.JetStream) {
	const orchestrator = "acme"
	p := event.PartitionOf(event.TokenOf(orchestrator), partitions)
	back := i.change(js, p, func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs = 1 })
	i.sees([]string{"max_msgs is 1"}, "doctor")
	i.sees([]string{"event log full", "max_msgs"}, "publish", orchestrator, "--because", "does it take events?", "--by", "jane")
	back()
	i.sees([]string{"stored in partition"}, "publish", orchestrator, "--because", "does it take events now?", "--by", "jane")
}

func (i investigator) silentBridge() {
	require.NoError(i.t, i.Redis.Pause())
	i.sees([]string{"bridge bridge-1 is not ready", "bridge bridge-2 is not ready"}, "status")
	i.Redis.Resume()
	i.sees([]string{"bridge-1", "bridge-2"}, "nodes")
	i.eventually(func() bool { return i.ctl("status").code == 0 }, "bridges hear again")
}

func (i investigator) hotOrchestrator() {
	const orchestrator = "busy"
	leave := i.visit(orchestrator, "--daemon", "slow-one", "--no-ack")
	for range 40 {
		require.Zero(i.t, i.ctl("publish", orchestrator, "--by", "jane").code)
	}
	i.sees([]string{"busy", "40"}, "top", "--once")
	i.sees([]string{"40"}, "connections", "--sort", "unsettled", "--limit", "3")
	i.sees([]string{"slow-one", "40 events not settled"}, "orchestrator", orchestrator)
	i.does("acknowledges nothing, ticket 4711", "revoke", "daemon", "slow-one", "--for", "1h")
	i.eventually(func() bool {
		return decode[connectionsOutput](i.t, i.ctl("connections", "-o", "json", "--orchestrator", orchestrator)).Total == 0
	}, "it is kept out")
	i.sees([]string{"SESSION"}, "connections", "--orchestrator", orchestrator)
	leave()
	require.Zero(i.t, i.acts("unrevoke", "daemon", "slow-one").code)
}

func (i investigator) wrongToken() {
	for range 3 {
		i.ctl("connect", "acme", "--daemon", "of-old", "--token", "a.b.c", "--url", i.Edges[1].URL)
	}
	i.sees([]string{"token_refused", "acme"}, "refusals")
	i.sees([]string{"COUNT"}, "refusals", "--group", "address")
	i.does("why is its token refused?", "log-level", "debug", "--orchestrator", "acme", "--for", "5m")
}

func (i investigator) misconfiguredNATS(js jetstream.JetStream) {
	back := i.change(js, 5, func(cfg *jetstream.StreamConfig) {
		cfg.Replicas, cfg.AllowDirect, cfg.Duplicates = 1, false, cfg.Duplicates/2
	})
	i.sees([]string{"allow_direct is false", "duplicate_window is"}, "doctor", "--timeout", "3s")
	back()
	i.sees([]string{"streams       ok"}, "doctor", "--timeout", "4s")
}

func (i investigator) poisonEvent() {
	require.Zero(i.t, i.ctl("publish", "acme", "--id", "poison-1", "--payload", `{"text":"chokes the daemon"}`, "--by", "jane").code)
	leave := i.visit("acme", "--daemon", "worker", "--no-ack")
	i.sees([]string{"undelivered", "poison-1"}, "dead-letters", "list")
	leave()
	i.sees([]string{"chokes the daemon"}, "dead-letters", "show", "1")
	i.does("the daemon is mended, ticket 4712", "dead-letters", "replay", "1")
	leave = i.visit("acme", "--daemon", "worker")
	i.sees([]string{"everything settled"}, "orchestrator", "acme")
	leave()
}

// visit connects a daemon until leave is called.
func (i investigator) visit(orchestrator string, args ...string) (leave func()) {
	i.t.Helper()
	ctx, cancel := context.WithCancel(i.ctx)
	left := make(chan said, 1)
	go func() {
		left <- i.ctlAs(ctx, append([]string{"connect", orchestrator, "--url", i.Edges[0].URL}, args...)...)
	}()
	i.eventually(func() bool {
		return decode[connectionsOutput](i.t, i.ctl("connections", "-o", "json", "--orchestrator", orchestrator)).Total == 1
	}, "it is connected")
	return func() {
		cancel()
		<-left
	}
}
