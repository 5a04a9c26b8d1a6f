// Package backup takes the gateway's streams out of JetStream into files, or
// into an object store, while the gateway runs, and puts them back into a
// JetStream that has lost them. It backs up what the gateway cannot do without: the events, where each daemon
// stands, and the dead letters.
package backup

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/backup/snapshot"
	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Config says what is backed up, and to where.
type Config struct {
	settings.Logging
	NATS       natsconn.Config `embed:""`
	Store      StoreConfig     `embed:""`
	BackupDir  string          `required:"" group:"Backup" help:"Directory in which each backup gets a directory of its own, named after the time, as 20261123T042759Z."`
	BackupKeep int             `default:"7" min:"1" group:"Backup" help:"Newest backups kept in it, and in the object store; older ones are removed after a good one."`

	BackupRecipients []string        `group:"Backup" help:"Recipients of age (age1…): the streams are encrypted for them, and who restores the backup needs the identity of one. Unset: the backup is not encrypted."`
	BackupSigningKey settings.Secret `group:"Backup" help:"Ed25519 private key (PEM) that signs the manifest of each backup, which has the SHA-256 sums of all its other files. Unset: the backup is not signed, and nothing shows that somebody has changed all of it."`
}

// Validate reports keys that cannot be used.
func (c *Config) Validate(report func(setting, problem string)) {
	if _, err := newVault(c.BackupRecipients); err != nil {
		report("BACKUP_RECIPIENTS", err.Error())
	}
	if _, err := parseSigningKey(c.BackupSigningKey); err != nil {
		report("BACKUP_SIGNING_KEY", err.Error())
	}
}

// Program describes gatewayctl backup with these settings, for its command and for the page of
// all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "gatewayctl backup",
		Description: "Takes a backup of the gateway's streams, while it runs.",
		Config:      c,
		Example:     "NATS_URL=nats://backup:password@nats:4222 NATS_INBOX_PREFIX=_INBOX_backup gatewayctl backup --backup-dir=/backups",
	}
}

const (
	// patience is how long NATS may take to be reached.
	patience = 30 * time.Second
	// attempts of a snapshot: a leader may change meanwhile.
	attempts   = 3
	retryAfter = 2 * time.Second
)

// Run takes a backup and removes the oldest ones.
func Run(ctx context.Context, cfg Config, logger *slog.Logger) error {
	conn, err := connect(ctx, cfg.NATS, "gatewayctl backup", logger)
	if err != nil {
		return err
	}
	defer conn.Close()
	t := &taking{js: conn.JS, dir: cfg.BackupDir, logger: logger}
	if t.vault, err = newVault(cfg.BackupRecipients); err != nil {
		return err
	}
	if t.key, err = parseSigningKey(cfg.BackupSigningKey); err != nil {
		return err
	}
	kept, err := cfg.Store.open(logger)
	if err != nil {
		return err
	}
	name, m, err := t.run(ctx)
	if err != nil {
		return err
	}
	logger.Info("backup complete", "backup", name, "encrypted", m.Encrypted, "signed", t.key != nil, "streams", len(m.Streams), "messages", m.Messages(), "bytes", m.Bytes(),
		"took", m.Ended.Sub(m.Began).Round(time.Millisecond))
	if kept != nil {
		if err := kept.copyTo(ctx, cfg.BackupDir, name); err != nil {
			return fmt.Errorf("backup %s is in %s, but not in the object store: %w", name, cfg.BackupDir, err)
		}
		logger.Info("backup stored", "backup", name, "url", cfg.Store.BackupS3URL)
		if err := kept.prune(ctx, cfg.BackupKeep); err != nil {
			return err
		}
	}
	return prune(cfg.BackupDir, cfg.BackupKeep)
}

// connect waits for NATS, but not for ever.
func connect(ctx context.Context, cfg natsconn.Config, name string, logger *slog.Logger) (*natsconn.Conn, error) {
	conn, err := natsconn.Connect(ctx, cfg, name, logger, prometheus.NewRegistry(), nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !conn.NC.IsConnected() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			_, detail := conn.Check()
			conn.Close()
			return nil, fmt.Errorf("no connection to NATS: %s: %w", detail, ctx.Err())
		}
	}
	return conn, nil
}

// taking is a backup that is being taken.
type taking struct {
	js     jetstream.JetStream
	dir    string
	vault  vault
	key    ed25519.PrivateKey // nil: it is not signed
	logger *slog.Logger
}

// run takes a backup into a directory of its own, and returns its name and what
// it holds. It fails if the log was rolled back meanwhile.
func (t *taking) run(ctx context.Context) (name string, m Manifest, err error) {
	m = Manifest{Format: format, Encrypted: len(t.vault) > 0, Gateway: buildinfo.Get().Version, Began: time.Now().UTC()}
	if m.Epochs, err = eventlog.Epochs(ctx, t.js); err != nil {
		return "", m, fmt.Errorf("this JetStream does not hold a gateway's log, or not all of it: %w", err)
	}
	name = m.Began.Format(nameLayout)
	parts := filepath.Join(t.dir, name+unfinished)
	if err := os.MkdirAll(parts, 0o700); err != nil {
		return "", m, err
	}
	for _, stream := range inOrder(len(m.Epochs)) {
		s, err := t.stream(ctx, stream, filepath.Join(parts, stream))
		if errors.Is(err, jetstream.ErrStreamNotFound) && slices.Contains(optional, stream) {
			continue
		}
		if err != nil {
			return "", m, fmt.Errorf("stream %s: %w", stream, err)
		}
		m.Streams = append(m.Streams, s)
	}
	epochs, err := eventlog.Epochs(ctx, t.js)
	if err != nil {
		return "", m, err
	}
	if !slices.Equal(epochs, m.Epochs) {
		return "", m, errors.New("an epoch of the log has changed meanwhile (a stream was created anew, restored or rolled back): take another backup")
	}
	m.Ended = time.Now().UTC()
	if err := writeManifest(parts, m, t.key); err != nil {
		return "", m, err
	}
	return name, m, os.Rename(parts, filepath.Join(t.dir, name))
}

// optional may be missing: the stream exists only where bridges have a database,
// and the bucket does not in clusters of before there was one.
var optional = []string{eventlog.UnresolvedStream, eventlog.BucketStream(revocation.Bucket)}

// inOrder lists the streams of a backup. What says that an event is done with
// comes before what has the event: cursors and checkpoints before the log, so
// that none is ahead of it, and what waits for its orchestrator before the log,
// into which it moves. The dead letters must have what a cursor has passed for
// their sake, and the log must have what was replayed from them: they come between.
func inOrder(partitions int) []string {
	list := []string{
		eventlog.BucketStream(eventlog.ClusterBucket),
		eventlog.BucketStream(eventlog.CheckpointBucket),
		eventlog.BucketStream(revocation.Bucket),
		eventlog.UnresolvedStream,
	}
	for p := range event.Partition(partitions) {
		list = append(list, eventlog.BucketStream(eventlog.CursorBucket(p)))
	}
	list = append(list, eventlog.DeadletterStream)
	for p := range event.Partition(partitions) {
		list = append(list, event.StreamName(p))
	}
	return list
}

func (t *taking) stream(ctx context.Context, stream, dir string) (s Stream, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Stream{}, err
	}
	for attempt := 1; ; attempt++ {
		// In a cluster a request for the snapshot of what is not there has no answer.
		if _, err = t.js.Stream(ctx, stream); errors.Is(err, jetstream.ErrStreamNotFound) {
			return s, errors.Join(err, os.RemoveAll(dir))
		}
		s, err = t.tryStream(ctx, stream, dir)
		if err == nil || attempt == attempts || ctx.Err() != nil {
			return s, err
		}
		t.logger.Warn("snapshot failed, trying again", "stream", stream, "error", err)
		lifecycle.Sleep(ctx, retryAfter)
	}
}

func (t *taking) tryStream(ctx context.Context, stream, dir string) (Stream, error) {
	s := Stream{Name: stream, Taken: time.Now().UTC()}
	var d snapshot.Description
	data, err := t.vault.write(filepath.Join(dir, dataFile), func(w io.Writer) (err error) {
		d, err = snapshot.Take(ctx, t.js, stream, w)
		return err
	})
	if err != nil {
		return s, err
	}
	var state struct {
		Messages uint64 `json:"messages"`
		First    uint64 `json:"first_seq"`
		Last     uint64 `json:"last_seq"`
	}
	if err := json.Unmarshal(d.State, &state); err != nil {
		return s, err
	}
	s.Messages, s.First, s.Last = state.Messages, state.First, state.Last
	text, err := encoded(d)
	if err != nil {
		return s, err
	}
	description, err := t.vault.write(filepath.Join(dir, descriptionFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	s.Bytes, s.SHA256, s.DescriptionSHA256 = data.bytes, data.sha256, description.sha256
	return s, err
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
