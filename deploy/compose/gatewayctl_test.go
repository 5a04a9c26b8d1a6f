package compose_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/gatewayctl"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// refusals are what the server says of users who want what they may not.
type refusals struct {
	mu   sync.Mutex
	said []string
}

func (r *refusals) Errorf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if strings.Contains(line, "Violation") {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.said = append(r.said, line)
	}
}
func (r *refusals) Noticef(string, ...any) {}
func (r *refusals) Warnf(string, ...any)   {}
func (r *refusals) Fatalf(string, ...any)  {}
func (r *refusals) Debugf(string, ...any)  {}
func (r *refusals) Tracef(string, ...any)  {}

// ofGatewayctl returns those of that program, by the name of its connections.
func (r *refusals) ofGatewayctl() (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.said {
		if strings.Contains(line, "gatewayctl") {
			found = append(found, line)
		}
	}
	return found
}

// ctl calls gatewayctl as a user of NATS.
func (w *world) ctl(user string, args ...string) (out, told string, code int) {
	w.t.Helper()
	environment := map[string]string{"NATS_URL": w.url(user), "NATS_INBOX_PREFIX": inbox(user)}
	var stdout, stderr bytes.Buffer
	code = gatewayctl.Run(w.t.Context(), args, func(name string) (string, bool) {
		value, given := environment[name]
		return value, given
	}, strings.NewReader(""), &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

// apart are commands that ask nobody on NATS, or not as the operator.
var apart = []string{"token", "connect", "idle", "context", "backup", "restore", "probe"}

// commands are all those of gatewayctl that ask or act as the operator: "dead-letters list".
func commands() (names []string) {
	var walk func(c *cobra.Command, path string)
	walk = func(c *cobra.Command, path string) {
		for _, sub := range c.Commands() {
			name := strings.TrimSpace(path + " " + sub.Name())
			switch {
			case slices.Contains(apart, name):
			case sub.HasSubCommands():
				walk(sub, name)
			default:
				names = append(names, name)
			}
		}
	}
	walk(gatewayctl.Command(), "")
	return names
}

// asked records what is asked of NATS and of nodes by whoever is answered below the
// operator's inbox.
func (w *world) asked() (subjects func() []string) {
	w.t.Helper()
	var mu sync.Mutex
	found := map[string]bool{}
	all, _ := w.client(unlimited)
	testserver.Answer(w.t, all.Conn(), ">", func(m *nats.Msg) {
		if strings.HasPrefix(m.Reply, operation.InboxPrefix) {
			mu.Lock()
			defer mu.Unlock()
			found[m.Subject] = true
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Collect(maps.Keys(found))
	}
}

// unused are permissions of a user that nothing of what was asked needs.
func unused(t *testing.T, user string, asked []string) (found []string) {
	t.Helper()
	configured, err := server.ProcessConfigFile(shipped)
	require.NoError(t, err)
	i := slices.IndexFunc(configured.Users, func(u *server.User) bool { return u.Username == user })
	for _, allowed := range configured.Users[i].Permissions.Publish.Allow {
		if !slices.ContainsFunc(asked, func(subject string) bool { return server.SubjectsCollide(subject, allowed) }) {
			found = append(found, allowed)
		}
	}
	return found
}

// letter returns the number of the oldest dead letter.
func (w *world) letter() string {
	w.t.Helper()
	var number string
	require.Eventually(w.t, func() bool {
		out, _, _ := w.ctl("operator", "dead-letters", "list", "-o", "json")
		var list struct {
			DeadLetters []struct{ Number uint64 }
		}
		if json.Unmarshal([]byte(out), &list) != nil || len(list.DeadLetters) == 0 {
			return false
		}
		number = fmt.Sprint(list.DeadLetters[0].Number)
		return true
	}, patience, 50*time.Millisecond, w.told)
	return number
}

// Each command of gatewayctl works as the user operator, and wants nothing that this user
// may not: the permissions are no more than they use, and no less.
func TestTheOperatorMayDoWhatGatewayctlDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	var refused refusals
	w.nats.Server().SetLogger(&refused, false, false)
	w.administer()
	for _, tier := range operation.Tiers {
		w.start(string(tier), restrictedly)
	}
	w.delivers()
	require.Eventually(t, func() bool {
		_, _, code := w.ctl("operator", "status")
		return code == 0
	}, patience, 50*time.Millisecond, w.told)
	asked := w.asked()
	require.NoError(t, w.redis.Client().Publish(t.Context(), "daemon:events", "no JSON").Err())
	letter := w.letter()
	done := map[string]bool{}
	for _, call := range []struct {
		args []string
		says string
		code int
	}{
		{args: []string{"status"}, says: "edge"},
		{args: []string{"nodes"}, says: "router"},
		{args: []string{"partitions"}, says: "router"},
		{args: []string{"connections"}, says: "ORCHESTRATOR"},
		{args: []string{"publish", "vp_1", "--id", "e1", "--yes"}, says: "stored in partition"},
		{args: []string{"orchestrator", "vp_1"}, says: "vp_1"},
		{args: []string{"event", "e1", "--orchestrator", "vp_1"}, says: "It is in the log"},
		{args: []string{"event", "e1"}, says: "It is in the log"},
		{args: []string{"refusals"}},
		{args: []string{"top", "--once"}, says: "edge"},
		{args: []string{"doctor"}, says: "permissions   ok"},
		{args: []string{"bundle", "--file", filepath.Join(t.TempDir(), "bundle.tar.gz")}},
		{args: []string{"log-level"}},
		{args: []string{"log-level", "debug", "--node", "edge", "--because", "a test", "--yes"}, says: "edge"},
		{args: []string{"balance", "--dry-run"}},
		{args: []string{"dead-letters", "list"}, says: letter},
		{args: []string{"dead-letters", "show", letter}, says: "no JSON"},
		{args: []string{"dead-letters", "replay", letter, "--because", "a test", "--yes"}, code: 1},
		{args: []string{"dead-letters", "drop", letter, "--because", "a test", "--yes"}},
		{args: []string{"revoke", "orchestrator", "vp_2", "--because", "a test", "--yes"}},
		{args: []string{"orchestrator", "vp_2"}, says: "Revoked until"},
		{args: []string{"unrevoke", "orchestrator", "vp_2", "--because", "a test", "--yes"}},
		{args: []string{"disconnect", "--all", "--because", "a test", "--yes"}},
		{args: []string{"drain", "edge", "--alone", "--because", "a test", "--yes"}},
		{args: []string{"undrain", "edge", "--because", "a test", "--yes"}},
	} {
		out, told, code := w.ctl("operator", call.args...)
		require.Equal(t, call.code, code, "%v: %s%s", call.args, out, told)
		require.Contains(t, out+told, call.says, "%v", call.args)
		done[call.args[0]], done[strings.Join(call.args[:min(2, len(call.args))], " ")] = true, true
	}
	require.Eventually(t, func() bool { // it needs time to ask, and to be answered
		_, _, code := w.ctl("operator", "trace", "--orchestrator", "vp_1", "--for", "1s")
		done["trace"] = true
		return code == 0
	}, patience, time.Millisecond)
	for _, name := range commands() {
		require.True(t, done[name], "%s is not tried", name)
	}
	require.Empty(t, refused.ofGatewayctl())
	require.ElementsMatch(t, []string{
		"$SRV.>",                   // for the nats tool, which lists micro-services
		"$JS.API.STREAM.MSG.GET.*", // of a stream whose direct gets somebody has switched off
	}, unused(t, "operator", asked()))
}

// Backups have a user of their own, with whom nobody is asked.
func TestBackupsAreTakenAndRestoredAsTheirOwnUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	var refused refusals
	w.nats.Server().SetLogger(&refused, false, false)
	w.administer()
	backend, _ := w.client("backend")
	_, err := backend.Publish(t.Context(), "daemon.events.vp_1", []byte(`{}`))
	require.NoError(t, err)
	dir := t.TempDir()
	_, told, code := w.ctl("backup", "backup", "--backup-dir", dir)
	require.Zero(t, code, told)
	all, _ := w.client(unlimited)
	_, told, code = w.ctl("backup", "restore", "--backup-dir", dir, "--replace")
	require.Zero(t, code, told)
	for _, name := range kept {
		_, err := all.Stream(t.Context(), name)
		require.NoError(t, err, name)
	}
	require.Empty(t, refused.ofGatewayctl())
}
