package gatewayctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// called runs the program with an environment, and returns what it has written and its
// exit code.
func called(t *testing.T, environment []string, args ...string) (out, told string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := &program{environment: environment, in: strings.NewReader(""), out: &stdout, err: &stderr}
	p.environ = func(name string) (string, bool) {
		for _, pair := range environment {
			if value, found := strings.CutPrefix(pair, name+"="); found {
				return value, true
			}
		}
		return "", false
	}
	code = p.run(context.Background(), p.calledAs(args[0], args[1:]))
	return stdout.String(), stderr.String(), code
}

const key = "DAEMON_JWT_SECRET=a-secret-of-the-tests-with-enough-bytes"

// Settings of backups and of the probe are read as before they were commands: from flags
// or the environment, by their names.
func TestJobsAreConfiguredByFlagsAndTheEnvironment(t *testing.T) {
	t.Parallel()
	contexts := "GATEWAYCTL_CONTEXTS=" + t.TempDir() + "/contexts.json"
	_, _, code := called(t, []string{contexts}, "gatewayctl", "context", "add", "staging", "--nats-url", "nats://staging:4222")
	require.Zero(t, code)
	for name, tt := range map[string]struct {
		environment []string
		args        []string
		code        int
		out, told   []string
	}{
		"flags": {args: []string{"gatewayctl", "backup", "--backup-dir=/b", "--backup-keep", "3", "--nats-url=nats://h:4222", "--print-config"},
			out: []string{"BACKUP_DIR=/b\n", "BACKUP_KEEP=3\n", "NATS_URL=nats://h:4222\n"}},
		"environment": {environment: []string{"BACKUP_DIR=/b", "BACKUP_KEEP=3", "NATS_URL=nats://u:hunter2@h:4222"}, args: []string{"gatewayctl", "backup", "--print-config"},
			out: []string{"BACKUP_DIR=/b\n", "BACKUP_KEEP=3\n", "NATS_URL=nats://***@h:4222\n"}},
		"a flag wins":              {environment: []string{"BACKUP_DIR=/a"}, args: []string{"gatewayctl", "restore", "--backup-dir=/b", "--print-config"}, out: []string{"BACKUP_DIR=/b\n"}},
		"a switch":                 {args: []string{"gatewayctl", "restore", "--backup-dir=/b", "--replace", "--print-config"}, out: []string{"REPLACE=true\n"}},
		"the current context":      {environment: []string{contexts}, args: []string{"gatewayctl", "backup", "--backup-dir=/b", "--print-config"}, out: []string{"NATS_URL=nats://staging:4222\n"}},
		"the probe has no context": {environment: []string{contexts, key}, args: []string{"gatewayctl", "probe", "--print-config"}, out: []string{"NATS_URL=nats://127.0.0.1:4222\n", "TIMEOUT=1m\n"}},
		"the probe's own timeout":  {environment: []string{key}, args: []string{"gatewayctl", "probe", "--timeout=2m", "--print-config"}, out: []string{"TIMEOUT=2m\n"}},
		"an old name has no context": {environment: []string{contexts}, args: []string{"gateway-restore", "--backup-dir=/b", "--print-config"},
			out: []string{"NATS_URL=nats://127.0.0.1:4222\n"}},
		"an old name, and a context": {environment: []string{contexts}, args: []string{"gateway-restore", "--context=staging", "--backup-dir=/b", "--print-config"},
			out: []string{"NATS_URL=nats://staging:4222\n"}},
		"an old name": {args: []string{"gateway-backup", "--backup-dir=/b", "--print-config"}, out: []string{"BACKUP_DIR=/b\n"},
			told: []string{"gateway-backup: this is gatewayctl backup now"}},
		"an old name with a switch of NATS": {args: []string{"gateway-restore", "--nats-tls-first", "--backup-dir=/b", "--print-config"},
			out: []string{"BACKUP_DIR=/b\n", "NATS_TLS_FIRST=true\n"}},
		"another":   {environment: []string{key}, args: []string{"gateway-probe", "--print-config"}, out: []string{"TIMEOUT=1m\n"}},
		"a version": {args: []string{"gateway-restore", "--version"}, out: []string{"gatewayctl version "}},
		"help":      {args: []string{"gateway-restore", "--help"}, out: []string{"gatewayctl restore [flags]", "--backup-dir", "(BACKUP_DIR,", "required)", "Examples:"}},
		"all mistakes at once": {args: []string{"gatewayctl", "backup", "--backup-keep=0"}, code: 2,
			told: []string{"gatewayctl backup: 2 mistakes in the settings:\n", "--backup-dir (BACKUP_DIR): not given", "--backup-keep (BACKUP_KEEP)"}},
		"a variable with a typo": {environment: []string{"BACKUP_DIRR=/b"}, args: []string{"gatewayctl", "backup"}, code: 2,
			told: []string{"gatewayctl backup: the environment variable BACKUP_DIRR is not read: did you mean BACKUP_DIR?"}},
		"a flag with a typo":     {args: []string{"gatewayctl", "backup", "--backup-dri=hunter2"}, code: 2, told: []string{"unknown flag: --backup-dri, did you mean --backup-dir?"}},
		"a flag like none":       {args: []string{"gatewayctl", "nodes", "--nonsense=hunter2"}, code: 2, told: []string{"unknown flag: --nonsense, gatewayctl nodes --help lists all"}},
		"a flag of others":       {args: []string{"gatewayctl", "backup", "--backup-dir=/b", "-o", "json"}, code: 2, told: []string{"-o, --output", "means nothing here"}},
		"a flag of others' NATS": {environment: []string{key}, args: []string{"gatewayctl", "probe", "--nats-creds-file=f"}, code: 2, told: []string{"--nats-creds-file", "means nothing here"}},
		"a secret as a flag": {args: []string{"gatewayctl", "probe", "--daemon-jwt-secret=hunter2-hunter2-hunter2-hunter2-hunter2", "--print-config"},
			told: []string{"was given as a flag, which every user of this machine can read"}},
		"an argument": {args: []string{"gatewayctl", "backup", "now"}, code: 2, told: []string{`unknown command "now" for "gatewayctl backup"`}},
		"no backup":   {args: []string{"gatewayctl", "restore", "--backup-dir=" + t.TempDir()}, code: 1, told: []string{"gatewayctl: there is no complete backup in "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, said, code := called(t, tt.environment, tt.args...)
			require.Equal(t, tt.code, code, said)
			for _, part := range tt.out {
				require.Contains(t, out, part)
			}
			for _, part := range tt.told {
				require.Contains(t, said, part)
			}
			require.NotContains(t, out+said, "hunter2")
		})
	}
}

// A schedule that sees 0 takes the backup for taken, and an operator the restoration for
// done: who was interrupted says so. A probe goes on until it is.
func TestAnInterruptedJobHasNotSucceeded(t *testing.T) {
	t.Parallel()
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	for name, tt := range map[string]struct {
		job  job
		fail bool
	}{
		"backup": {backupJob(), true}, "restore": {restoreJob(), true}, "probe": {probeJob(), false},
	} {
		var stderr bytes.Buffer
		p := &program{environment: []string{}, environ: func(string) (string, bool) { return "", false }, out: &stderr, err: &stderr}
		tt.job.run = func(ctx context.Context, _, _ io.Writer) error { return fmt.Errorf("copy: %w", ctx.Err()) }
		args := []string{"--backup-dir=" + t.TempDir()}
		if name == "probe" {
			args = []string{"--daemon-jwt-secret=a-secret-of-the-tests-with-enough-bytes"}
		}
		err := p.runJob(interrupted, tt.job, args)
		if tt.fail {
			require.ErrorContains(t, err, "interrupted", name)
		} else {
			require.NoError(t, err, name)
		}
	}
}

// A shell is offered the flags of a job, the values that a setting may have, and none of
// the flags that mean nothing to it.
func TestFlagsOfJobsAreCompleted(t *testing.T) {
	t.Parallel()
	out, _, code := called(t, nil, "gatewayctl", "__complete", "backup", "--")
	require.Zero(t, code)
	require.Contains(t, out, "--backup-dir")
	require.Contains(t, out, "--context")
	require.NotContains(t, out, "--output")
	require.NotContains(t, out, "--timeout")
	out, _, _ = called(t, nil, "gatewayctl", "__complete", "probe", "--log-format", "")
	require.Contains(t, out, "json\ntext\n")
	out, _, _ = called(t, nil, "gatewayctl", "__complete", "pro")
	require.Contains(t, out, "probe\tTry a running gateway end to end")
}

// Lines of --help fit into a terminal.
func TestHelpIsWrapped(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"backup", "restore", "probe", "doctor", "nodes"} {
		out, _, _ := called(t, nil, "gatewayctl", command, "--help")
		for line := range strings.Lines(out) {
			require.LessOrEqual(t, len(strings.TrimRight(line, "\n")), 120, line)
		}
	}
}
