package backup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/backup/snapshot"
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// RestoreConfig says which backup is restored, and to where.
type RestoreConfig struct {
	settings.Logging
	NATS           natsconn.Config `embed:""`
	Store          StoreConfig     `embed:""`
	BackupDir      string          `required:"" group:"Backup" help:"Directory in which gatewayctl backup has put its backups; with an object store, into which the backup is fetched from there."`
	Backup         string          `group:"Backup" help:"Name of the backup, as 20261123T042759Z; the newest complete one if not given."`
	Replace        bool            `group:"Backup" help:"Delete the gateway's streams that exist, with all that they hold. Without it nothing is restored while there is one."`
	StreamReplicas int             `default:"0" min:"0" max:"5" group:"Backup" help:"NATS servers that hold a copy of each restored stream; 0: as many as when the backup was taken."`

	BackupIdentity      settings.Secret `group:"Backup" help:"Identities of age (AGE-SECRET-KEY-1…), one a line: an encrypted backup needs that of one of its recipients."`
	BackupPublicKeyFile string          `group:"Backup" help:"File with the public key (PEM) of BACKUP_SIGNING_KEY: a backup that it has not signed, or that was changed since, is not restored. Unset: a signature is not looked at."`
}

// Validate reports keys that cannot be used.
func (c *RestoreConfig) Validate(report func(setting, problem string)) {
	if _, err := parseIdentities(c.BackupIdentity); err != nil {
		report("BACKUP_IDENTITY", err.Error())
	}
	if _, err := readPublicKey(c.BackupPublicKeyFile); err != nil {
		report("BACKUP_PUBLIC_KEY_FILE", err.Error())
	}
}

func (c *RestoreConfig) keys() (k keys, err error) {
	if k.identities, err = parseIdentities(c.BackupIdentity); err != nil {
		return k, fmt.Errorf("BACKUP_IDENTITY: %w", err)
	}
	if k.public, err = readPublicKey(c.BackupPublicKeyFile); err != nil {
		return k, fmt.Errorf("BACKUP_PUBLIC_KEY_FILE: %w", err)
	}
	return k, nil
}

// Program describes gatewayctl restore with these settings, for its command and for the page of
// all settings.
func (c *RestoreConfig) Program() settings.Program {
	return settings.Program{
		Name:        "gatewayctl restore",
		Description: "Restores a backup of the gateway's streams, while no node of it runs.",
		Config:      c,
		Example:     "NATS_URL=nats://backup:password@nats:4222 NATS_INBOX_PREFIX=_INBOX_backup gatewayctl restore --backup-dir=/backups",
	}
}

const (
	// settled is how long streams that were deleted are left alone: a server takes
	// one out of its list before it has removed it.
	settled     = 5 * time.Second
	replicaPoll = 100 * time.Millisecond
	// concurrentMoves are writes of cursors under way.
	concurrentMoves = 64
)

// RunRestore restores a backup. No node of the gateway may be running.
func RunRestore(ctx context.Context, cfg RestoreConfig, logger *slog.Logger) error {
	name, err := provide(ctx, cfg, logger)
	if err != nil {
		return err
	}
	r := &restoration{dir: filepath.Join(cfg.BackupDir, name), replicas: cfg.StreamReplicas, logger: logger}
	if r.keys, err = cfg.keys(); err != nil {
		return err
	}
	if r.manifest, err = read(r.dir, r.keys); err != nil {
		return fmt.Errorf("backup %s: %w", name, err)
	}
	if r.keys.public == nil {
		logger.Warn("whose backup this is has not been checked, for want of BACKUP_PUBLIC_KEY_FILE", "backup", name)
	}
	conn, err := connect(ctx, cfg.NATS, "gatewayctl restore", logger)
	if err != nil {
		return err
	}
	defer conn.Close()
	r.js = conn.JS
	logger.Info("restoring", "backup", name, "age", time.Since(r.manifest.Ended).Round(time.Second), "streams", len(r.manifest.Streams))
	return r.run(ctx, cfg.Replace)
}

// provide returns the name of the backup that is to be restored, which is in the
// directory then, fetched from the object store where there is one.
func provide(ctx context.Context, cfg RestoreConfig, logger *slog.Logger) (name string, err error) {
	kept, err := cfg.Store.open(logger)
	if err != nil {
		return "", err
	}
	from, names := cfg.BackupDir, []string(nil)
	if kept == nil {
		names, err = Names(cfg.BackupDir)
	} else {
		from = cfg.Store.BackupS3URL
		names, err = kept.names(ctx)
	}
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", fmt.Errorf("there is no complete backup in %s", from)
	}
	name = cmp.Or(cfg.Backup, names[0])
	if !slices.Contains(names, name) {
		return "", fmt.Errorf("there is no backup %q in %s, expected one of %s", name, from, strings.Join(names, ", "))
	}
	if kept != nil {
		err = kept.copyFrom(ctx, name, cfg.BackupDir)
	}
	return name, err
}

// restoration is a backup that is being restored.
type restoration struct {
	js       jetstream.JetStream
	dir      string
	keys     keys
	manifest Manifest
	replicas int // 0: as in the backup
	logger   *slog.Logger
}

func (r *restoration) run(ctx context.Context, replace bool) error {
	began := time.Now()
	if err := r.makeRoom(ctx, replace); err != nil {
		return err
	}
	for _, s := range r.manifest.Streams {
		if err := r.restoreStream(ctx, s); err != nil {
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				err = fmt.Errorf("somebody has created it meanwhile: stop all routers, edges and bridges, and try again with REPLACE: %w", err)
			}
			return fmt.Errorf("restore stream %s: %w", s.Name, err)
		}
	}
	if err := r.awaitReplicas(ctx); err != nil {
		return err
	}
	kept, reset, err := r.beginEpochs(ctx)
	if err != nil {
		return err
	}
	r.logger.Info("restored", "streams", len(r.manifest.Streams), "messages", r.manifest.Messages(), "cursors", kept, "cursors_reset", reset,
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}

// makeRoom makes sure that none of the gateway's streams exists, whether it is
// in the backup or not.
func (r *restoration) makeRoom(ctx context.Context, replace bool) error {
	var there []string
	list := r.js.StreamNames(ctx)
	for name := range list.Name() {
		if slices.Contains(inOrder(len(r.manifest.Epochs)), name) {
			there = append(there, name)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list the streams: %w", err)
	}
	if len(there) == 0 {
		return nil
	}
	if !replace {
		return fmt.Errorf("%d of the gateway's streams exist, such as %s: what they hold is lost with REPLACE, and nothing is restored without", len(there), there[0])
	}
	for _, name := range there {
		if err := r.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("delete stream %s: %w", name, err)
		}
	}
	r.logger.Warn("streams deleted", "streams", len(there))
	lifecycle.Sleep(ctx, settled)
	return ctx.Err()
}

func (r *restoration) restoreStream(ctx context.Context, s Stream) error {
	d, err := r.keys.description(r.dir, r.manifest, s)
	if err != nil {
		return fmt.Errorf("%s: %w", descriptionFile, err)
	}
	var change map[string]any
	if r.replicas > 0 {
		change = map[string]any{"num_replicas": r.replicas}
	}
	final, err := with(d.Config, change)
	if err != nil {
		return fmt.Errorf("%s: %w", descriptionFile, err)
	}
	// When NATS 2.15 restores a stream with replicas, its servers differ in the
	// time of its creation: a later change of the leader would begin a new epoch.
	// And it takes the stream for one to be restored until it is updated: a server
	// that joined later with an empty disk would crash over that. So the stream is
	// restored on one server, and updated to what it was.
	if d.Config, err = with(final, map[string]any{"description": "Daemon gateway: being restored", "num_replicas": 1}); err != nil {
		return err
	}
	data, file, err := r.keys.open(filepath.Join(r.dir, s.Name, dataFile), s.SHA256, r.manifest.Encrypted)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := snapshot.Restore(ctx, r.js, s.Name, d, data); err != nil {
		return err
	}
	return snapshot.Request(ctx, r.js.Conn(), jet.API(r.js)+"STREAM.UPDATE."+s.Name, final, &struct{}{})
}

// awaitReplicas waits until all servers that hold a stream have all of it. Until
// then the loss of one might be the loss of the stream.
func (r *restoration) awaitReplicas(ctx context.Context) error {
	began := time.Now()
	for _, s := range r.manifest.Streams {
		told := time.Now()
		for {
			stream, err := r.js.Stream(ctx, s.Name)
			if err == nil && isReplicated(stream.CachedInfo()) {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("replicas of stream %s: %w", s.Name, errors.Join(ctx.Err(), err))
			}
			if time.Since(told) > patience {
				told = time.Now()
				r.logger.Warn("the replicas of a stream are not complete yet", "stream", s.Name, "error", err)
			}
			lifecycle.Sleep(ctx, replicaPoll)
		}
	}
	r.logger.Info("all replicas are complete", "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// isReplicated tells it of a stream on a single server, too.
func isReplicated(info *jetstream.StreamInfo) bool {
	if info.Cluster == nil || info.Config.Replicas <= 1 {
		return true
	}
	incomplete := slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
	return info.Cluster.Leader != "" && len(info.Cluster.Replicas) == info.Config.Replicas-1 && !incomplete
}

// with changes some settings of a stream's and leaves the others, also those that
// this program does not know.
func with(config json.RawMessage, change map[string]any) (json.RawMessage, error) {
	var fields map[string]any
	numbers := json.NewDecoder(bytes.NewReader(config))
	numbers.UseNumber() // large ones stay exact
	if err := numbers.Decode(&fields); err != nil {
		return nil, err
	}
	maps.Copy(fields, change)
	return json.Marshal(fields)
}

// beginEpochs begins a new epoch of each partition: sequences after those of the
// backup are used again, and what a client or a node remembers of them must
// mean nothing. Cursors and checkpoints of the backup, which are not ahead of its
// log, are taken over into the new epoch. It returns how many cursors were, and
// how many were not.
func (r *restoration) beginEpochs(ctx context.Context) (kept, reset int64, err error) {
	for p := range event.Partition(len(r.manifest.Epochs)) {
		before := r.manifest.Epochs[p]
		epoch, last, err := eventlog.BeginEpoch(ctx, r.js, p, before, time.Now())
		if err != nil {
			return 0, 0, err
		}
		if err := eventlog.MoveCheckpoint(ctx, r.js, p, before, epoch); err != nil {
			return 0, 0, err
		}
		m := mover{before: before, epoch: epoch, last: last}
		if m.bucket, err = r.js.KeyValue(ctx, eventlog.CursorBucket(p)); err != nil {
			return 0, 0, fmt.Errorf("cursors of partition %d: %w", p, err)
		}
		if err := m.run(ctx); err != nil {
			return 0, 0, fmt.Errorf("cursors of partition %d: %w", p, err)
		}
		kept, reset = kept+m.kept.Load(), reset+m.reset.Load()
	}
	return kept, reset, nil
}

// mover takes the cursors of a partition over into another epoch.
type mover struct {
	bucket        jetstream.KeyValue
	before, epoch eventlog.Epoch
	last          uint64 // of the partition
	kept, reset   atomic.Int64
}

func (m *mover) run(ctx context.Context) error {
	all, err := m.bucket.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() { _ = all.Stop() }()
	group, moving := errgroup.WithContext(ctx)
	group.SetLimit(concurrentMoves)
	for {
		select {
		case entry, ok := <-all.Updates():
			if !ok {
				return errors.Join(errors.New("the connection was lost"), group.Wait())
			}
			if entry == nil { // no more that were there
				return group.Wait()
			}
			group.Go(func() error { return m.move(moving, entry) })
		case <-moving.Done():
			return group.Wait()
		}
	}
}

// move leaves a record alone that is of another epoch or cannot be read: in the
// new epoch its sequences mean nothing.
func (m *mover) move(ctx context.Context, entry jetstream.KeyValueEntry) error {
	rec, err := cursor.Decode(entry.Value())
	moved, ok := rec.Moved(m.epoch, m.last)
	if err != nil || rec.Epoch != m.before || !ok {
		m.reset.Add(1)
		return nil
	}
	data, err := moved.Encode()
	if err != nil {
		return err
	}
	if _, err := m.bucket.Update(ctx, entry.Key(), data, entry.Revision()); err != nil {
		return fmt.Errorf("key %s: %w", entry.Key(), err)
	}
	m.kept.Add(1)
	return nil
}
