package backup_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// objects is an object store with a bucket.
type objects struct {
	t       *testing.T
	url     string
	backend gofakes3.Backend
	refuse  atomic.Bool // to write manifests
}

const bucketName = "backups"

func newObjects(t *testing.T) *objects {
	o := &objects{t: t, backend: s3mem.New()}
	require.NoError(t, o.backend.CreateBucket(bucketName))
	serve := gofakes3.New(o.backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.refuse.Load() && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "manifest.json") {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	o.url = server.URL + "/" + bucketName
	return o
}

// keys are all objects.
func (o *objects) keys() (keys []string) {
	o.t.Helper()
	list, err := o.backend.ListBucket(bucketName, nil, gofakes3.ListBucketPage{})
	require.NoError(o.t, err)
	for _, object := range list.Contents {
		keys = append(keys, object.Key)
	}
	return keys
}

func (o *objects) put(key, content string) {
	o.t.Helper()
	_, err := o.backend.PutObject(bucketName, key, nil, strings.NewReader(content), int64(len(content)), nil)
	require.NoError(o.t, err)
}

func (o *objects) config() backup.StoreConfig {
	return backup.StoreConfig{BackupS3URL: o.url + "/gateway/production", BackupS3AccessKeyID: "id", BackupS3SecretAccessKey: "secret"}
}

func (o *objects) taken(c *backup.Config)           { c.Store = o.config() }
func (o *objects) restored(c *backup.RestoreConfig) { c.Store = o.config() }

func TestABackupGoesToTheObjectStoreAndIsRestoredFromIt(t *testing.T) {
	t.Parallel()
	g, o := newGateway(t), newObjects(t)
	g.publish("o", "first")
	require.NoError(t, g.backUp(t.TempDir(), o.taken))
	g.publish("o", "after the backup")
	for _, key := range o.keys() {
		require.True(t, strings.HasPrefix(key, "gateway/production/20"), key)
	}

	r := onServer(t)
	require.NoError(t, r.restore(t.TempDir(), o.restored), "into a directory that has nothing")
	r.open()
	page, err := r.log.Read(t.Context(), r.log.Partition("o"), "o", 0, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, page.Messages, 1)
	epochs, err := eventlog.Epochs(t.Context(), r.js)
	require.NoError(t, err)
	require.Len(t, epochs, partitions)
}

func TestTheNewestBackupsAreKeptInTheObjectStore(t *testing.T) {
	t.Parallel()
	g, o := newGateway(t), newObjects(t)
	for day := range 9 {
		name := fmt.Sprintf("gateway/production/2001010%dT000000Z/", day+1)
		o.put(name+"manifest.json", "{}")
		o.put(name+"DAEMON_EVENTS_0/stream.tar.s2", "x")
	}
	o.put("gateway/production/20010101T000001Z/DAEMON_EVENTS_0/backup.json", "never finished")
	o.put("gateway/production/29990101T000000Z/DAEMON_EVENTS_0/backup.json", "under way")
	o.put("gateway/production/notes/manifest.json", "somebody else's")
	o.put("gateway/elsewhere/20010101T000000Z/manifest.json", "another gateway's")
	require.NoError(t, g.backUp(t.TempDir(), o.taken))
	var left []string
	for _, key := range o.keys() {
		name := strings.Join(strings.Split(key, "/")[:3], "/")
		if !slices.Contains(left, name) {
			left = append(left, name)
		}
	}
	require.Len(t, left, 10, "7, one that is under way, and two that are others'")
	require.NotContains(t, left, "gateway/production/20010103T000000Z")
	require.Contains(t, left, "gateway/production/20010104T000000Z")
	require.Contains(t, left, "gateway/production/29990101T000000Z")
}

// A copy that was cut off has no manifest, and is never restored.
func TestWhatIsNotCompleteInTheObjectStoreIsNoBackup(t *testing.T) {
	t.Parallel()
	g, o, dir := newGateway(t), newObjects(t), t.TempDir()
	require.ErrorContains(t, g.restore(t.TempDir(), o.restored), "there is no complete backup in "+o.url)
	o.refuse.Store(true)
	require.ErrorContains(t, g.backUp(dir, o.taken), "but not in the object store")
	require.NotEmpty(t, o.keys())
	names, err := backup.Names(dir)
	require.NoError(t, err)
	require.Len(t, names, 1, "it is still here")
	require.ErrorContains(t, g.restore(t.TempDir(), o.restored), "there is no complete backup in "+o.url)
}

// Whoever can write into the store cannot write elsewhere on the machine that
// restores.
func TestAnObjectThatLeadsOutOfItsBackupIsRefused(t *testing.T) {
	t.Parallel()
	g, o, dir := onServer(t), newObjects(t), t.TempDir()
	o.put("gateway/production/20010101T000000Z/manifest.json", "{}")
	o.put("gateway/production/20010101T000000Z/../../escaped", "x")
	require.ErrorContains(t, g.restore(filepath.Join(dir, "inner"), o.restored), "which leads out of it")
	_, err := os.Stat(filepath.Join(dir, "escaped"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSettingsOfAnObjectStoreThatCannotBeUsedAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config backup.StoreConfig
		want   []string
	}{
		"none":             {},
		"a role":           {config: backup.StoreConfig{BackupS3URL: "https://s3.example.com/bucket"}},
		"a key":            {config: backup.StoreConfig{BackupS3URL: "http://minio:9000/bucket/a/b", BackupS3AccessKeyID: "a", BackupS3SecretAccessKey: "b"}},
		"no bucket":        {config: backup.StoreConfig{BackupS3URL: "https://s3.example.com/"}, want: []string{"BACKUP_S3_URL"}},
		"another scheme":   {config: backup.StoreConfig{BackupS3URL: "s3://bucket/prefix"}, want: []string{"BACKUP_S3_URL"}},
		"a user in it":     {config: backup.StoreConfig{BackupS3URL: "https://a:b@s3.example.com/bucket"}, want: []string{"BACKUP_S3_URL"}},
		"half a key":       {config: backup.StoreConfig{BackupS3AccessKeyID: "a"}, want: []string{"BACKUP_S3_SECRET_ACCESS_KEY"}},
		"a secret, no key": {config: backup.StoreConfig{BackupS3SecretAccessKey: settings.Secret("b")}, want: []string{"BACKUP_S3_SECRET_ACCESS_KEY"}},
	} {
		var reported []string
		c.config.Validate(func(setting, _ string) { reported = append(reported, setting) })
		require.Equal(t, c.want, reported, name)
	}
}
