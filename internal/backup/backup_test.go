package backup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const partitions = 2

var quiet = slog.New(slog.DiscardHandler)

// gateway is what a gateway keeps in NATS.
type gateway struct {
	t        *testing.T
	server   interface{ ClientURL() string }
	js       jetstream.JetStream
	replicas int
	log      *eventlog.Log
}

// onServer is a gateway that has not begun.
func onServer(t *testing.T) *gateway {
	s := testserver.NATS(t)
	return &gateway{t: t, server: s, js: s.JetStream(), replicas: 1}
}

func newGateway(t *testing.T) *gateway {
	g := onServer(t)
	g.open()
	return g
}

func (g *gateway) open() {
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions, cfg.StreamReplicas = partitions, g.replicas
	var err error
	g.log, err = eventlog.Open(g.t.Context(), g.js, cfg, quiet, prometheus.NewRegistry())
	require.NoError(g.t, err)
}

func (g *gateway) configOf(stream string) jetstream.StreamConfig {
	g.t.Helper()
	s, err := g.js.Stream(g.t.Context(), stream)
	require.NoError(g.t, err)
	return s.CachedInfo().Config
}

// publish publishes an event until the log has it, and returns where.
func (g *gateway) publish(orchestrator event.Token, id string) uint64 {
	g.t.Helper()
	var ack eventlog.Ack
	var err error
	require.Eventually(g.t, func() bool {
		ack, err = g.log.Publish(g.t.Context(), orchestrator, id, []byte(`{}`))
		return !eventlog.Retryable(err)
	}, testserver.Patience, time.Millisecond)
	require.NoError(g.t, err)
	return ack.Sequence
}

func (g *gateway) key(orchestrator event.Token) jetstream.KeyValue {
	g.t.Helper()
	kv, err := g.js.KeyValue(g.t.Context(), eventlog.CursorBucket(g.log.Partition(orchestrator)))
	require.NoError(g.t, err)
	return kv
}

// stands writes that a daemon stands somewhere.
func (g *gateway) stands(orchestrator event.Token, floor uint64) {
	g.t.Helper()
	rec := cursor.Record{
		Epoch:   g.log.Epoch(g.log.Partition(orchestrator)),
		Daemons: map[protocol.DaemonID]cursor.Entry{"daemon": {Floor: floor, Sent: floor}},
	}
	data, err := rec.Encode()
	require.NoError(g.t, err)
	_, err = g.key(orchestrator).Put(g.t.Context(), string(orchestrator), data)
	require.NoError(g.t, err)
}

func (g *gateway) cursor(orchestrator event.Token) cursor.Record {
	g.t.Helper()
	entry, err := g.key(orchestrator).Get(g.t.Context(), string(orchestrator))
	require.NoError(g.t, err)
	rec, err := cursor.Decode(entry.Value())
	require.NoError(g.t, err)
	return rec
}

func (g *gateway) backUp(dir string, change ...func(*backup.Config)) error {
	cfg := settings.Default[backup.Config]()
	cfg.NATS.NATSURL, cfg.BackupDir = []settings.URL{settings.URL(g.server.ClientURL())}, dir
	for _, f := range change {
		f(&cfg)
	}
	return backup.Run(g.t.Context(), cfg, quiet)
}

// restore restores the newest backup into another server.
func (g *gateway) restore(dir string, change ...func(*backup.RestoreConfig)) error {
	cfg := settings.Default[backup.RestoreConfig]()
	cfg.NATS.NATSURL, cfg.BackupDir = []settings.URL{settings.URL(g.server.ClientURL())}, dir
	for _, f := range change {
		f(&cfg)
	}
	return backup.RunRestore(g.t.Context(), cfg, quiet)
}

func replace(c *backup.RestoreConfig) { c.Replace = true }

func TestWhatWasBackedUpIsRestoredIntoAnEmptyJetStream(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	p := g.log.Partition("o")
	first := g.publish("o", "first")
	g.stands("o", first)
	second := g.publish("o", "second")
	checkpoint := eventlog.Checkpoint{Epoch: g.log.Epoch(p), Sequence: first, Seen: eventlog.Mark{Sequence: second, Stored: time.Now()}}
	require.NoError(t, g.log.SaveCheckpoint(t.Context(), p, checkpoint))
	require.NoError(t, g.log.DeadLetter(t.Context(), eventlog.DeadLetter{Reason: "not_json", Token: "o", Body: []byte("x")}))
	require.NoError(t, g.backUp(dir))
	third := g.publish("o", "after the backup")
	g.stands("o", third)
	before := g.log.Epoch(p)

	r := onServer(t)
	require.NoError(t, r.restore(dir))
	r.open()
	epoch := r.log.Epoch(p)
	require.True(t, epoch.Newer(before), "what is remembered of the time after the backup means nothing")
	page, err := r.log.Read(t.Context(), p, "o", 0, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, page.Messages, 2, "the third was not in the backup")
	entry := r.cursor("o")
	require.Equal(t, epoch, entry.Epoch)
	require.Equal(t, first, entry.Daemons["daemon"].Floor, "what was settled stays settled")
	saved, found, err := r.log.LoadCheckpoint(t.Context(), p)
	require.NoError(t, err)
	require.True(t, found)
	checkpoint.Epoch = epoch
	require.Equal(t, checkpoint.Sequence, saved.Sequence)
	require.Equal(t, checkpoint.Epoch, saved.Epoch)
	letters, err := r.js.Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	require.EqualValues(t, 1, letters.CachedInfo().State.Msgs)
	require.Equal(t, third, r.publish("o", "instead"), "sequences are used again")
	for _, stream := range []string{event.StreamName(p), eventlog.DeadletterStream, eventlog.BucketStream(eventlog.CursorBucket(p))} {
		require.Equal(t, g.configOf(stream), r.configOf(stream))
	}
}

// An event that moves while a backup is taken is in it, wherever it comes from: given
// up, it stands in the dead letters before the cursor passes it, and replayed, in the
// log before its letter is removed.
func TestNoEventMovesPastABackup(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	require.NoError(t, g.backUp(dir))
	text, err := os.ReadFile(filepath.Join(newest(t, dir), "manifest.json"))
	require.NoError(t, err)
	var manifest backup.Manifest
	require.NoError(t, json.Unmarshal(text, &manifest))
	taken := make(map[string]int)
	for i, s := range manifest.Streams {
		taken[s.Name] = i
	}
	for p := range event.Partition(partitions) {
		require.Less(t, taken[eventlog.BucketStream(eventlog.CursorBucket(p))], taken[eventlog.DeadletterStream], "cursors before dead letters")
		require.Less(t, taken[eventlog.DeadletterStream], taken[event.StreamName(p)], "dead letters before the log")
		require.Less(t, taken[eventlog.BucketStream(eventlog.CheckpointBucket)], taken[eventlog.DeadletterStream])
	}
}

// Whichever server leads a restored stream tells the same time of creation: else
// a change of leaders would have everything delivered again.
func TestLeadersOfARestoredStreamAgreeOnItsEpoch(t *testing.T) {
	t.Parallel()
	cluster, dir := testserver.NATSCluster(t, 3), t.TempDir()
	g := &gateway{t: t, server: cluster.Nodes[0], js: cluster.JetStream(), replicas: 3}
	g.open()
	p := g.log.Partition("o")
	g.stands("o", g.publish("o", "event"))
	require.NoError(t, g.backUp(dir))
	require.NoError(t, g.restore(dir, replace))
	g.open()
	epoch := g.log.Epoch(p)
	require.Equal(t, epoch, g.cursor("o").Epoch)
	for range 4 {
		cluster.StepDown(g.js, event.StreamName(p))
		cluster.StreamLeader(g.js, event.StreamName(p))
		var state eventlog.State
		require.Eventually(t, func() bool {
			var err error
			state, err = g.log.Refresh(t.Context(), p)
			return err == nil
		}, testserver.Patience, 10*time.Millisecond)
		require.Equal(t, epoch, state.Epoch)
	}
}

func TestCursorAheadOfTheRestoredLogMeansNothing(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	last := g.publish("o", "only")
	g.stands("o", last+1)
	before := g.log.Epoch(g.log.Partition("o"))
	require.NoError(t, g.backUp(dir))
	require.NoError(t, g.restore(dir, replace))
	require.Equal(t, before, g.cursor("o").Epoch, "of an epoch that is over")
	epochs, err := eventlog.Epochs(t.Context(), g.js)
	require.NoError(t, err)
	require.NotContains(t, epochs, before)
}

func TestManyCursorsAreTakenOver(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	var orchestrators []event.Token
	for n := range 500 {
		o := event.Token(fmt.Sprintf("o-%d", n))
		g.stands(o, g.publish(o, "event"))
		orchestrators = append(orchestrators, o)
	}
	require.NoError(t, g.backUp(dir))
	require.NoError(t, g.restore(dir, replace))
	epochs, err := eventlog.Epochs(t.Context(), g.js)
	require.NoError(t, err)
	for _, o := range orchestrators {
		require.Equal(t, epochs[g.log.Partition(o)], g.cursor(o).Epoch)
	}
}

func TestNothingIsRestoredOverStreamsThatExist(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	g.publish("o", "in the backup")
	require.NoError(t, g.backUp(dir))
	g.publish("o", "after it")
	require.ErrorContains(t, g.restore(dir), "of the gateway's streams exist")
	last, err := g.log.Refresh(t.Context(), g.log.Partition("o"))
	require.NoError(t, err)
	require.NoError(t, g.restore(dir, replace))
	restored, err := g.js.Stream(t.Context(), event.StreamName(g.log.Partition("o")))
	require.NoError(t, err)
	require.Equal(t, last.Last-1, restored.CachedInfo().State.LastSeq)
}

func TestBackupThatWasDamagedIsRefused(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	require.NoError(t, g.backUp(dir))
	names, err := backup.Names(dir)
	require.NoError(t, err)
	file := filepath.Join(dir, names[0], event.StreamName(0), "stream.tar.s2")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data[:len(data)/2], 0o600))
	require.ErrorContains(t, g.restore(dir, replace), "stream DAEMON_EVENTS_0")
	_, err = g.js.Stream(t.Context(), event.StreamName(0))
	require.NoError(t, err, "nothing was deleted")
}

func TestBackupIsChosenByName(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	require.ErrorContains(t, g.restore(dir), "there is no complete backup")
	require.NoError(t, g.backUp(dir))
	err := g.restore(dir, func(c *backup.RestoreConfig) { c.Backup = "20010101T000000Z" })
	require.ErrorContains(t, err, `there is no backup "20010101T000000Z"`)
}

func TestOldBackupsAreRemovedAfterAGoodOne(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	for day := range 9 {
		require.NoError(t, os.Mkdir(filepath.Join(dir, fmt.Sprintf("2001010%dT000000Z", day+1)), 0o700))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "20010101T000001Z.unfinished"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "somebody else's"), 0o700))
	require.NoError(t, g.backUp(dir))
	names, err := backup.Names(dir)
	require.NoError(t, err)
	require.Len(t, names, 7)
	require.False(t, strings.HasPrefix(names[0], "2001"))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 8)
	require.DirExists(t, filepath.Join(dir, "somebody else's"))
}

func TestServerWithoutAGatewayIsNotBackedUp(t *testing.T) {
	t.Parallel()
	g := onServer(t)
	require.ErrorContains(t, g.backUp(t.TempDir()), "does not hold a gateway's log")
	var unreachable natsconn.Config
	unreachable.NATSURL = []settings.URL{"nats://127.0.0.1:1"}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, backup.Run(ctx, backup.Config{NATS: unreachable, BackupDir: t.TempDir()}, quiet), context.DeadlineExceeded)
}
