package gatewayctl_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/gatewayctl"
)

// user is somebody who calls gatewayctl.
type user struct {
	t           *testing.T
	environment map[string]string
}

func newUser(t *testing.T) *user {
	t.Helper()
	return &user{t, map[string]string{"HOME": t.TempDir()}}
}

func (u *user) file() string {
	return filepath.Join(u.environment["HOME"], ".config", "gatewayctl", "contexts.json")
}

// call returns the exit code, and all that was written.
func (u *user) call(args ...string) (int, string) {
	u.t.Helper()
	var out bytes.Buffer
	code := gatewayctl.Run(u.t.Context(), args, func(name string) (string, bool) {
		value, ok := u.environment[name]
		return value, ok
	}, strings.NewReader(""), &out, &out)
	return code, out.String()
}

func (u *user) must(args ...string) string {
	u.t.Helper()
	code, out := u.call(args...)
	require.Zero(u.t, code, "%v: %s", args, out)
	return out
}

// away is an address at which nobody answers: what is told of it says where it was
// tried.
func away(port string) string { return "nats://127.0.0.1:" + port }

func TestAContextSaysWhereNATSIsUnlessSomethingElseDoes(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.must("context", "add", "staging", "--nats-url", away("1"))
	out := u.must("context", "add", "production", "--nats-url", away("2"))
	require.Regexp(t, `(?m)^\* +staging +nats://127.0.0.1:1`, out, "the first is the current one")

	tried := func(port string, args ...string) {
		t.Helper()
		code, out := u.call(append([]string{"nodes", "--timeout", "1s"}, args...)...)
		require.Equal(t, 1, code)
		require.Contains(t, out, "connect to NATS at 127.0.0.1:"+port)
	}
	tried("1")
	tried("2", "--context", "production")
	tried("3", "--nats-url", away("3"))
	u.must("context", "use", "production")
	tried("2")
	u.environment["NATS_URL"] = away("4")
	tried("4")
	tried("1", "--context", "staging")
	delete(u.environment, "NATS_URL")

	code, out := u.call("nodes", "--context", "nowhere")
	require.Equal(t, 2, code)
	require.Contains(t, out, `there is no context "nowhere"`)
	require.NotContains(t, u.must("context", "remove", "production"), "production")
	code, _ = u.call("context", "use", "production")
	require.Equal(t, 2, code)
}

// Whoever may write the file leads an operator to another cluster, and whoever may
// read it must find no password there.
func TestTheFileOfContextsIsForItsUserAloneAndHoldsNoSecret(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	code, out := u.call("context", "add", "staging", "--nats-url", "nats://operator:hunter2@127.0.0.1:1")
	require.Equal(t, 2, code)
	require.Contains(t, out, "--nats-url-file")
	require.NotContains(t, out, "hunter2")
	require.NoFileExists(t, u.file())
	for _, list := range [][]string{
		{"--nats-url", "nats://127.0.0.1,nats://operator:hunter2@127.0.0.2"},
		{"--nats-url", away("1"), "--nats-url", "nats://operator:hunter2@127.0.0.2"},
	} {
		code, out := u.call(append([]string{"context", "add", "staging"}, list...)...)
		require.Equal(t, 2, code, "%v", list)
		require.NotContains(t, out, "hunter2")
		require.NoFileExists(t, u.file())
	}

	secret := filepath.Join(u.environment["HOME"], "url")
	require.NoError(t, os.WriteFile(secret, []byte("nats://operator:hunter2@127.0.0.1:7\n"), 0o600))
	u.must("context", "add", "staging", "--nats-url-file", secret)
	info, err := os.Stat(u.file())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	text, err := os.ReadFile(u.file())
	require.NoError(t, err)
	require.NotContains(t, string(text), "hunter2")
	code, out = u.call("nodes", "--timeout", "1s")
	require.Equal(t, 1, code)
	require.Contains(t, out, "connect to NATS at 127.0.0.1:7")
	require.NotContains(t, out, "hunter2")

	require.NoError(t, os.Chmod(u.file(), 0o644))
	code, out = u.call("context", "list")
	require.Equal(t, 1, code)
	require.Contains(t, out, "chmod 600")
}

// Of a flag that is given twice nothing counts for nothing in silence.
func TestServersMayBeGivenOneByOneAndFilesOnceAlone(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	code, out := u.call("nodes", "--timeout", "1s", "--nats-url", away("1"), "--nats-url", away("2"))
	require.Equal(t, 1, code)
	require.Contains(t, out, "connect to NATS at 127.0.0.1:1, 127.0.0.1:2")
	u.must("context", "add", "both", "--nats-url", away("3"), "--nats-url", away("4"))
	code, out = u.call("nodes", "--timeout", "1s")
	require.Equal(t, 1, code)
	require.Contains(t, out, "connect to NATS at 127.0.0.1:3, 127.0.0.1:4")
	code, out = u.call("nodes", "--nats-url-file", "one", "--nats-url-file", "two")
	require.Equal(t, 2, code)
	require.Contains(t, out, "it is given twice")
}

// The domain goes with the servers: that of another cluster's would be looked for in vain.
func TestAContextNamesTheDomainOfJetStream(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.must("context", "add", "leaf", "--nats-url", away("1"), "--nats-jetstream-domain", "hub")
	text, err := os.ReadFile(u.file())
	require.NoError(t, err)
	require.Contains(t, string(text), `"NATS_JETSTREAM_DOMAIN": "hub"`)
	code, out := u.call("nodes", "--nats-url", away("1"), "--nats-jetstream-domain", "$JS.hub.API")
	require.Equal(t, 2, code)
	require.Contains(t, out, "expected the domain alone")
}

func TestAContextThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	for want, args := range map[string][]string{
		"where is NATS":        {"staging"},
		"is no name":           {"sta/ging", "--nats-url", away("1")},
		"accepts 1 arg":        {},
		"--nats-url with user": {"staging", "--nats-url", "nats://token@127.0.0.1"},
		"expected nats://host": {"staging", "--nats-url", "127.0.0.1:4222"},
	} {
		code, out := u.call(append([]string{"context", "add"}, args...)...)
		require.Equal(t, 2, code, want)
		require.Contains(t, out, want)
	}
	u.environment["HOME"] = ""
	code, out := u.call("context", "list")
	require.Equal(t, 1, code)
	require.Contains(t, out, "GATEWAYCTL_CONTEXTS")
}

func TestThreeShellsGetCompletion(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		require.Contains(t, u.must("completion", shell), "gatewayctl")
	}
	u.must("context", "add", "staging", "--nats-url", away("1"))
	require.Contains(t, u.must("__complete", "context", "use", ""), "staging")
	require.Contains(t, u.must("__complete", "nodes", "--context", ""), "staging")
	require.Contains(t, u.must("__complete", "log-level", ""), "debug")
}
