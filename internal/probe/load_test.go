package probe

import (
	"bytes"
	"log/slog"
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func tell(t *testing.T, cfg Config, step string) string {
	t.Helper()
	cfg.Step, cfg.Finish = step, step == ""
	answer, err := Tell(t.Context(), cfg)
	require.NoError(t, err)
	return answer
}

// start runs a trial, and returns what it writes and its end.
func start(t *testing.T, cfg *Config) (out *bytes.Buffer, ended chan error) {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg.ControlAddr = listen.Addr().String()
	out, ended = &bytes.Buffer{}, make(chan error, 1)
	running := *cfg
	go func() { ended <- underLoad(t.Context(), running, listen, out, slog.New(slog.DiscardHandler)) }()
	return out, ended
}

func TestATrialOfAGatewayThatWorksTellsWhatEachStepCameTo(t *testing.T) {
	t.Parallel()
	cfg := loaded(t)
	out, ended := start(t, &cfg)
	require.Contains(t, tell(t, cfg, "waiting"), "connecting: ")
	delivered := regexp.MustCompile(` [1-9]\d+ delivered, 0 repeats`)
	require.Eventually(t, func() bool { return delivered.MatchString(tell(t, cfg, "waiting")) }, testserver.Patience, time.Second)
	tell(t, cfg, "")
	require.NoError(t, <-ended, out)
	require.Contains(t, out.String(), "PASSED")
	require.Regexp(t, `(?m)^ *\d+s +[1-9]\d* +[1-9]\d* +0 +0 +0 +\d+\.\ds +waiting$`, out.String())
}

func TestDaemonsThatAreRefusedAreTold(t *testing.T) {
	t.Parallel()
	cfg := loaded(t)
	cfg.DaemonJWTSecret = "another-secret-of-thirty-two-bytes-or-more"
	out, ended := start(t, &cfg)
	cfg.Step = "first"
	_, err := Tell(t.Context(), cfg)
	require.ErrorContains(t, err, "the trial answers: daemon daemon_")
	tell(t, cfg, "")
	require.ErrorIs(t, <-ended, ErrFailed)
	require.Contains(t, out.String(), "never got in")
}

func TestWhatIsLostIsCountedInTheStepInWhichItWasPublished(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]bool{"it is in the log, but came to nobody": true, "it is not in the log": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := ledger.New()
			tried := &trial{ledger: l, account: newAccount(time.Now), crowd: traffic.NewCrowd(l, nil, "")}
			var published []traffic.Publication
			publish := func(id string, sequence uint64) {
				e := event.Event{ID: id, OrchestratorID: "A", Type: loadType, RequiresAck: true}
				published = append(published, traffic.Publication{Event: e, Way: traffic.IntoLog, Began: time.Now(), Taken: time.Now()})
				l.Published(e)
				l.Confirmed("A", id)
				if sequence > 0 {
					l.Stored("A", id, ledger.Place{Sequence: sequence})
				}
			}
			conn := l.Connected(ledger.Connection{
				Seat: "s", Orchestrator: "A", Daemon: "d", Subscriptions: []protocol.Subscription{{Pattern: protocol.AllEvents}},
			})
			l.Subscribed(conn)
			tried.account.begin("first")
			publish("arrives", 1)
			l.Received(conn, protocol.Event{EventID: "arrives", EventType: loadType, RequiresAck: true})
			l.Acked(conn, "arrives")
			tried.account.begin("second")
			publish("lost", map[bool]uint64{true: 2}[stored])
			tried.account.begin("third")

			var out bytes.Buffer
			require.ErrorIs(t, tried.judge(&out, published), ErrFailed)
			require.Regexp(t, `(?m)^ *\d+s +1 +1 +0 .* first$`, out.String())
			require.Regexp(t, `(?m)^ *\d+s +1 +0 +1 .* second$`, out.String())
			require.Regexp(t, `(?m)^ *\d+s +0 +0 +0 .* third$`, out.String())
			require.Contains(t, out.String(), "FAILED: ")
		})
	}
}

func TestAStepNobodyHearsIsAnError(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[Config]()
	cfg.ControlAddr, cfg.Finish = "127.0.0.1:1", true
	_, err := Tell(t.Context(), cfg)
	require.ErrorContains(t, err, "tell the trial")
}
