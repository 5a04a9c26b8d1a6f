package e2e_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

type doctorOutput struct {
	Examined, Unseen []string
	Symptoms         []struct {
		Area, Of, Problem, Do string
		Advice                bool
	}
}

// mend returns what is to be mended.
func (o doctorOutput) mend() (found []string) {
	for _, s := range o.Symptoms {
		if !s.Advice {
			found = append(found, s.Area+": "+s.Of+": "+s.Problem)
		}
	}
	return found
}

func TestTheDoctorFindsWhatIsToBeMendedAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	examine := func() (doctorOutput, said) {
		s := w.ctl("doctor", "-o", "json", "--timeout", "3s")
		return decode[doctorOutput](t, s), s
	}
	var s said
	w.eventually(func() bool {
		s = w.ctl("doctor")
		return s.code == 0
	}, "a cluster that is well has nothing to be mended: %v", &s)
	require.Contains(t, s.out, "STREAM_REPLICAS=1", "which is advice")
	found, _ := examine()
	require.Len(t, found.Examined, 11)
	for _, symptom := range found.Symptoms {
		require.NotEmpty(t, symptom.Do)
	}

	// Somebody changes a stream, publishes with another number of partitions, and a
	// bridge stands still.
	js := testserver.JetStream(t, w.NATSURL())
	stream, err := js.Stream(w.ctx, event.StreamName(3))
	require.NoError(t, err)
	changed := stream.CachedInfo().Config
	changed.MaxAge = time.Hour
	_, err = js.UpdateStream(w.ctx, changed)
	require.NoError(t, err)
	token := event.TokenOf("misplaced")
	wrong := (event.PartitionOf(token, partitions) + 1) % partitions
	_, err = js.Publish(w.ctx, event.Subject(wrong, token), []byte(`{"id":"misplaced-1","type":"message.received","orchestratorId":"misplaced","payload":{},"requiresAck":true}`),
		jetstream.WithMsgID("misplaced-1"))
	require.NoError(t, err)
	wanted := []string{
		"streams: " + event.StreamName(3) + ": max_age is 1h0m0s, as configured it is 168h0m0s",
		"publishers: router router-",
	}
	w.eventually(func() bool {
		found, s = examine()
		return s.code == 1 && !slices.ContainsFunc(wanted, func(want string) bool {
			return !slices.ContainsFunc(found.mend(), func(have string) bool { return strings.HasPrefix(have, want) })
		})
	}, "both are found: %v", &s)
	require.Contains(t, w.ctl("doctor").out, "To be mended (streams)")

	// With a router and an edge killed the rest is found as well.
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	w.eventually(func() bool {
		found, s = examine()
		return s.code == 1 && slices.Contains(found.mend(), wanted[0])
	}, "it is still found: %v", &s)

	w.Bridges[0].Kill()
	w.Bridges[1].Kill()
	w.eventually(func() bool {
		found, _ = examine()
		return slices.Contains(found.mend(), "nodes: bridge: no node of this tier answers")
	}, "that a tier is away is found")
}

// unpack returns the files of a bundle.
func unpack(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	packed, err := gzip.NewReader(bytes.NewReader(text))
	require.NoError(t, err)
	all := map[string]string{}
	for archive := tar.NewReader(packed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		if strings.HasSuffix(header.Name, ".gz") {
			inner, err := gzip.NewReader(bytes.NewReader(content))
			require.NoError(t, err)
			content, err = io.ReadAll(inner)
			require.NoError(t, err)
		}
		_, name, _ := strings.Cut(header.Name, "/")
		all[name] = string(content)
	}
}

// What is sent to whoever helps must let nobody in.
func TestABundleHasWhatHelpsAndNoSecret(t *testing.T) {
	t.Parallel()
	const gossipKey, previous = "c2VjcmV0LW9mLWdvc3NpcC0xMjM0NTY3ODkwMTIzNDU=", "another-secret-of-tokens-of-before-0123456789"
	w := startWorld(t, with(map[string]string{
		"GOSSIP_KEYS": gossipKey, "DAEMON_JWT_SECRET_PREVIOUS": previous, "LOG_LEVEL": "debug",
	}))
	p := w.populate(3)
	w.enter(p.everybody()...)
	s := w.ctl("token", "of-a-token")
	require.Zero(t, s.code, s.err)
	token := strings.TrimSpace(s.out)
	// A token that is let in, one that is refused, and a payload that is delivered.
	const payload = "payload-that-nobody-else-is-to-see"
	require.Zero(t, w.ctl("publish", "of-a-token", "--payload", `{"text":"`+payload+`"}`, "--by", "tester").code)
	require.Zero(t, w.ctl("connect", "of-a-token", "--token", token, "--url", w.Edges[0].URL, "--count", "1").code)
	refused := token[:len(token)-4] + "AAAA"
	require.Equal(t, 1, w.ctl("connect", "of-a-token", "--token", refused, "--url", w.Edges[1].URL).code)

	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	s = w.ctl("bundle", "--file", file)
	require.Zero(t, s.code, s.err)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Equal(t, 1, w.ctl("bundle", "--file", file).code, "what is there stays")
	all := unpack(t, file)
	for _, n := range []string{"edge-edge-1", "edge-edge-3", "router-router-2", "bridge-bridge-1"} {
		require.Contains(t, all[n+"/settings.txt"], "NODE_NAME=", n)
		require.Contains(t, all[n+"/metrics.txt"], "gateway_build_info", n)
		require.Contains(t, all[n+"/log.jsonl"], `"msg":"starting"`, n)
		require.Contains(t, all[n+"/goroutines.txt"], "goroutine profile", n)
		require.NotEmpty(t, all[n+"/heap.pb.gz"], n)
	}
	require.Contains(t, all["edge-edge-1/settings.txt"], "DAEMON_JWT_SECRET=***")
	for _, name := range []string{"about", "status", "nodes", "partitions", "refusals", "balance", "doctor"} {
		require.NotEmpty(t, all[name+".txt"], name)
		require.NotEmpty(t, all[name+".json"], name)
	}
	secrets := append(strings.Split(token, "."), cluster.Secret, gossipKey, previous, token, refused, payload)
	for name, content := range all {
		for _, secret := range secrets {
			require.NotContains(t, content, secret, name)
		}
	}

	// Without a router and an edge, of those who are left.
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	file = filepath.Join(t.TempDir(), "later.tar.gz")
	s = w.ctl("bundle", "--file", file, "--timeout", "2s")
	require.Contains(t, []int{0, 3}, s.code, s.err)
	all = unpack(t, file)
	require.NotEmpty(t, all["router-router-2/log.jsonl"])
	require.NotContains(t, all, "router-router-1/log.jsonl")
}

func TestTopShowsWhatTheClusterDoes(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(6)
	w.enter(p.everybody()...)
	s := w.ctl("top", "--once", "--every", "500ms")
	require.Zero(t, s.code, s.err)
	for _, want := range []string{"events a second", "edge-1", "router-2", "bridge-1", "16 of 16 partitions served", "ORCHESTRATOR", "vp_0"} {
		require.Contains(t, s.out, want)
	}
	w.Routers[0].Kill()
	w.Edges[2].Kill()
	w.eventually(func() bool {
		s = w.ctl("top", "--once", "--every", "500ms", "--timeout", "2s", "-o", "json")
		return s.code == 0 && !strings.Contains(s.out, `"edge-3"`)
	}, "those who are left are shown: %v", &s)
	require.Equal(t, 2, w.ctl("top", "--every", "1ms").code)
}
