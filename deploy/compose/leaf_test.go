package compose_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/gatewayctl"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

const hubDomain = "hub"

// forDomain is what docs/operations.md says becomes of the permissions.
func forDomain(permissions []byte, domain string) []byte {
	text := bytes.ReplaceAll(permissions, []byte("$JS.API."), []byte("$JS."+domain+".API."))
	return regexp.MustCompile(`"\$KV\.`).ReplaceAll(text, []byte(`"$$JS.`+domain+`.API.$$KV.`))
}

// newLeaf is a world whose NATS is a leaf node of a hub, which has JetStream.
func newLeaf(t *testing.T, own func(*server.Options)) (*world, *testserver.NATSServer) {
	t.Helper()
	port := testserver.Port(t)
	hub := testserver.NATS(t, func(o *server.Options) {
		o.JetStreamDomain = hubDomain
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", port
	})
	permissions, err := os.ReadFile(shipped)
	require.NoError(t, err)
	w := layOut(t, forDomain(permissions, hubDomain), func(o *server.Options) {
		remote := &url.URL{Scheme: "nats", Host: "127.0.0.1:" + strconv.Itoa(port)}
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{remote}}}
		own(o)
	})
	w.domain = hubDomain
	require.Eventually(t, func() bool { return hub.Server().NumLeafNodes() == 1 }, patience, 10*time.Millisecond)
	return w, hub
}

func TestTheStreamsMayBeInTheDomainOfAHub(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]func(*server.Options){
		"a leaf node with JetStream of its own": func(o *server.Options) { o.JetStreamDomain = "leaf" },
		"a leaf node without JetStream":         func(o *server.Options) { o.JetStream = false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, hub := newLeaf(t, own)
			w.administer()
			w.start("router", restrictedly)
			w.start("bridge", restrictedly)
			w.start("edge", restrictedly)
			w.delivers()
			w.traces()
			w.requireCursors(hub)
			w.publishes()
			w.operates()
			require.NotContains(t, strings.ToLower(w.told.String()), "permissions violation")
		})
	}
}

// requireCursors waits until an edge has written where a daemon stands.
func (w *world) requireCursors(hub *testserver.NATSServer) {
	w.t.Helper()
	js := hub.JetStream()
	require.Eventually(w.t, func() bool {
		var written uint64
		for p := range event.Partition(settings.Default[eventlog.Config]().Partitions) {
			stream, err := js.Stream(w.t.Context(), eventlog.BucketStream(eventlog.CursorBucket(p)))
			require.NoError(w.t, err)
			written += stream.CachedInfo().State.Msgs
		}
		return written > 0
	}, patience, 20*time.Millisecond)
}

// publishes stores an event as a backend does.
func (w *world) publishes() {
	w.t.Helper()
	backend, _ := w.client("backend")
	library, err := publisher.New(backend, publisher.Config{})
	require.NoError(w.t, err)
	_, err = library.Publish(w.t.Context(), event.Event{ID: "e1", Type: "a.b", OrchestratorID: "clx1", Payload: []byte(`{}`)})
	require.NoError(w.t, err)
}

// operates asks what an operator asks, and revokes something.
func (w *world) operates() {
	w.t.Helper()
	for _, args := range [][]string{{"orchestrator", "clx1"}, {"dead-letters", "list"}, {"revoke", "daemon", "d", "--yes", "--because=test", "--by=test"}} {
		var out bytes.Buffer
		args = append(args, "--nats-url="+w.url("operator"), "--nats-jetstream-domain="+hubDomain, "--timeout="+patience.String())
		code := gatewayctl.Run(w.t.Context(), args, func(string) (string, bool) { return "", false }, strings.NewReader(""), &out, &out)
		require.Zero(w.t, code, "%s: %s", args[0], out.String())
	}
}

func TestABackupOfADomainIsRestoredThere(t *testing.T) {
	t.Parallel()
	w, hub := newLeaf(t, func(o *server.Options) { o.JetStreamDomain = "leaf" })
	w.administer()
	w.publishes()
	logger := slog.New(slog.NewTextHandler(w.told, nil))
	taken := settings.Default[backup.Config]()
	taken.NATS, taken.BackupDir = w.natsConfig("backup"), t.TempDir()
	require.NoError(t, backup.Run(t.Context(), taken, logger), w.told)

	stream := event.StreamName(event.PartitionOf(event.TokenOf("clx1"), settings.Default[eventlog.Config]().Partitions))
	require.NoError(t, hub.JetStream().DeleteStream(t.Context(), stream))
	restored := settings.Default[backup.RestoreConfig]()
	restored.NATS, restored.BackupDir, restored.Replace = taken.NATS, taken.BackupDir, true
	require.NoError(t, backup.RunRestore(t.Context(), restored, logger), w.told)
	found, err := hub.JetStream().Stream(t.Context(), stream)
	require.NoError(t, err)
	_, err = found.GetLastMsgForSubject(t.Context(), event.Subject(event.PartitionOf(event.TokenOf("clx1"), 16), "clx1"))
	require.NoError(t, err)
}

// What is to be in a domain must not be made elsewhere.
func TestWithoutTheDomainsPrefixNothingIsPermitted(t *testing.T) {
	t.Parallel()
	w, _ := newLeaf(t, func(o *server.Options) { o.JetStreamDomain = "leaf" })
	w.domain = ""
	js, violations := w.client("admin")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, _ = js.CreateStream(ctx, jetstream.StreamConfig{Name: "KV_gateway_cluster"}) }()
	require.ErrorContains(t, <-violations, "$JS.API.STREAM.CREATE.KV_gateway_cluster")
}
