package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// command runs one of the programs to its end, with nothing but these settings
// in its environment.
func command(t *testing.T, path string, settings []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, settings...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestWrongSettingsStopTheStartWithAllMistakes(t *testing.T) {
	t.Parallel()
	const common = "PARTITIONS=none,STREAM_REPLICAS=0,EVENT_RETENTION=soon,ADMIN_ADDR=here,LOG_LEVEL=loud,SHUTDOWN_TIMEOUT=-3s,NATS_URL=foo,NATS_CREDS_FILE=/not/there"
	for _, test := range []struct {
		name, path, settings string
		flags                []string
		named                []string
	}{
		{"edge", binaries.Edge, common + ",DAEMON_JWT_SECRET=short-and-secret,GOSSIP_ADDR=nowhere,TRACE_SAMPLE=-1,WS_MAX_CONNECTIONS_PER_VP=0,TLS_CERT_FILE=/not/there,TLS_KEY_FILE=/not/there," +
			"OTEL_EXPORTER_OTLP_ENDPOINT=nowhere,OTEL_EXPORTER_OTLP_PROTOCOL=grpc,OTEL_EXPORTER_OTLP_HEADERS=short-and-secret",
			[]string{"--ack-timeout=never"},
			[]string{"DAEMON_JWT_SECRET", "GOSSIP_ADDR", "TRACE_SAMPLE", "WS_MAX_CONNECTIONS_PER_VP", "TLS_CERT_FILE", "ACK_TIMEOUT",
				"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_HEADERS"}},
		{"router", binaries.Router, common + ",GOSSIP_KEYS=short-and-secret,FETCH_BATCH=0", []string{"--forward-timeout=0s"},
			[]string{"GOSSIP_KEYS", "FETCH_BATCH", "FORWARD_TIMEOUT"}},
		{"publisher-bridge", binaries.Bridge, common + ",REDIS_URL=http://short-and-secret:short-and-secret@x,PUBLISH_BUFFER=0", []string{"--no-such-flag=1"},
			[]string{"REDIS_URL", "PUBLISH_BUFFER", "--no-such-flag"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := command(t, test.path, strings.Split(test.settings, ","), test.flags...)
			require.Equal(t, 2, code, stderr)
			require.Empty(t, stdout)
			named := append([]string{"PARTITIONS", "STREAM_REPLICAS", "EVENT_RETENTION", "ADMIN_ADDR", "LOG_LEVEL", "SHUTDOWN_TIMEOUT", "NATS_URL", "NATS_CREDS_FILE"}, test.named...)
			for _, name := range named {
				require.Contains(t, stderr, name)
			}
			require.NotContains(t, stderr, "short-and-secret")
		})
	}
}

func TestProgramsDescribeThemselvesWithoutSecrets(t *testing.T) {
	t.Parallel()
	const secret = "0123456789-do-not-show-this-to-anybody"
	settings := []string{
		"DAEMON_JWT_SECRET=" + secret, "DAEMON_JWT_SECRET_PREVIOUS=" + secret + "," + secret,
		"GOSSIP_KEYS=MDEyMzQ1Njc4OWFiY2RlZg==", "NATS_URL=nats://user:" + secret + "@nats:4222", "REDIS_URL=redis://:" + secret + "@redis:6379",
	}
	for _, test := range []struct {
		name, path string
		shown      []string
	}{
		{"edge", binaries.Edge, []string{"DAEMON_JWT_SECRET", "GOSSIP_KEYS", "NATS_URL", "WS_AUTH_TIMEOUT", "PARTITIONS=16"}},
		{"router", binaries.Router, []string{"GOSSIP_KEYS", "NATS_URL", "FETCH_BATCH", "PARTITIONS=16"}},
		{"publisher-bridge", binaries.Bridge, []string{"REDIS_URL", "NATS_URL", "REDIS_CHANNELS=daemon:events", "PARTITIONS=16"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := command(t, test.path, settings, "--print-config")
			require.Zero(t, code, stderr)
			for _, shown := range test.shown {
				require.Contains(t, stdout, shown)
			}
			for _, hidden := range []string{secret, "MDEyMzQ1Njc4OWFiY2RlZg"} {
				require.NotContains(t, stdout+stderr, hidden)
			}

			stdout, stderr, code = command(t, test.path, settings, "--help")
			require.Zero(t, code, stderr)
			require.Contains(t, stdout, "--nats-url")
			require.NotContains(t, stdout+stderr, secret)

			stdout, stderr, code = command(t, test.path, nil, "--version")
			require.Zero(t, code, stderr)
			require.Contains(t, stdout, test.name)
		})
	}
}
