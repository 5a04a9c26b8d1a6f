package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// StoreConfig says where backups are kept beyond the directory: in an object
// store that speaks S3.
type StoreConfig struct {
	BackupS3URL             string          `name:"backup-s3-url" group:"Object store" help:"Endpoint, bucket and prefix of an S3-compatible object store, as https://s3.example.com/bucket/prefix. Backups are copied to it, and restored from it; BACKUP_DIR is then where they are put together."`
	BackupS3Region          string          `name:"backup-s3-region" group:"Object store" help:"Region of the bucket, where the endpoint does not tell."`
	BackupS3AccessKeyID     settings.Secret `name:"backup-s3-access-key-id" group:"Object store" help:"Access key that may list, read, write and delete objects below the prefix. Unset: the role of the machine, of the pod's ServiceAccount (IRSA, Pod Identity) or of the task."`
	BackupS3SecretAccessKey settings.Secret `name:"backup-s3-secret-access-key" group:"Object store" help:"Secret of BACKUP_S3_ACCESS_KEY_ID."`
}

// Validate reports a store that cannot be used.
func (c *StoreConfig) Validate(report func(setting, problem string)) {
	if _, _, _, err := c.location(); err != nil {
		report("BACKUP_S3_URL", err.Error())
	}
	if (c.BackupS3AccessKeyID == "") != (c.BackupS3SecretAccessKey == "") {
		report("BACKUP_S3_SECRET_ACCESS_KEY", "expected together with BACKUP_S3_ACCESS_KEY_ID")
	}
}

// location is what the URL says; endpoint is nil without one.
func (c *StoreConfig) location() (endpoint *url.URL, bucket, prefix string, err error) {
	if c.BackupS3URL == "" {
		return nil, "", "", nil
	}
	endpoint, err = url.Parse(c.BackupS3URL)
	if err != nil || endpoint.Scheme != "https" && endpoint.Scheme != "http" || endpoint.Host == "" || endpoint.User != nil || endpoint.RawQuery != "" {
		return nil, "", "", errors.New("expected a URL such as https://s3.example.com/bucket/prefix, without user and query")
	}
	bucket, prefix, _ = strings.Cut(strings.Trim(endpoint.Path, "/"), "/")
	if bucket == "" {
		return nil, "", "", errors.New("expected a bucket in the path, as in https://s3.example.com/bucket/prefix")
	}
	if prefix != "" {
		prefix += "/"
	}
	return endpoint, bucket, prefix, nil
}

// open returns the store; nil if there is none.
func (c *StoreConfig) open(logger *slog.Logger) (*store, error) {
	endpoint, bucket, prefix, err := c.location()
	if err != nil || endpoint == nil {
		return nil, err
	}
	who := credentials.NewStaticV4(string(c.BackupS3AccessKeyID), string(c.BackupS3SecretAccessKey), "")
	if c.BackupS3AccessKeyID == "" {
		who = credentials.NewIAM("")
	}
	client, err := minio.New(endpoint.Host, &minio.Options{Creds: who, Secure: endpoint.Scheme == "https", Region: c.BackupS3Region})
	if err != nil {
		return nil, fmt.Errorf("object store %s: %w", endpoint.Host, err)
	}
	return &store{client: client, bucket: bucket, prefix: prefix, logger: logger}, nil
}

// store holds backups as objects: prefix, the backup's name, and the path of each
// file in the backup's directory. The manifest is written last and deleted first,
// so that a backup which has one is complete.
type store struct {
	client *minio.Client
	bucket string
	prefix string // empty, or it ends in /
	logger *slog.Logger
}

// copyTo copies a complete backup from its directory into the store.
func (s *store) copyTo(ctx context.Context, dir, backup string) error {
	var files []string
	err := filepath.WalkDir(filepath.Join(dir, backup), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && entry.Name() != manifestFile {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, file := range append(files, filepath.Join(dir, backup, manifestFile)) {
		relative, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		key := s.prefix + filepath.ToSlash(relative)
		if _, err := s.client.FPutObject(ctx, s.bucket, key, file, minio.PutObjectOptions{ContentType: "application/octet-stream"}); err != nil {
			return fmt.Errorf("store object %s: %w", key, err)
		}
	}
	return nil
}

// backups returns the paths of the objects of each backup, complete or not,
// without prefix and name.
func (s *store) backups(ctx context.Context, below string) (map[string][]string, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // what lists ends then
	found := make(map[string][]string)
	for object := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + below, Recursive: true}) {
		if object.Err != nil {
			return nil, fmt.Errorf("list the objects below %s: %w", s.prefix+below, object.Err)
		}
		backup, file, nested := strings.Cut(strings.TrimPrefix(object.Key, s.prefix), "/")
		if _, err := time.Parse(nameLayout, backup); err == nil && nested {
			found[backup] = append(found[backup], file)
		}
	}
	return found, ctx.Err()
}

// names returns the complete backups, the newest first.
func (s *store) names(ctx context.Context) ([]string, error) {
	all, err := s.backups(ctx, "")
	if err != nil {
		return nil, err
	}
	return completeOf(all), nil
}

func completeOf(backups map[string][]string) []string {
	names := slices.DeleteFunc(slices.Collect(maps.Keys(backups)), func(name string) bool { return !slices.Contains(backups[name], manifestFile) })
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(b, a) })
	return names
}

// copyFrom copies a backup from the store into a directory of its own, unless
// that is there already. What it is worth is for read to find out.
func (s *store) copyFrom(ctx context.Context, backup, dir string) error {
	to := filepath.Join(dir, backup)
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	all, err := s.backups(ctx, backup+"/")
	if err != nil {
		return err
	}
	parts := to + unfinished
	for _, file := range all[backup] {
		if !filepath.IsLocal(filepath.FromSlash(file)) {
			return fmt.Errorf("backup %s has an object %q, which leads out of it", backup, quote.Cut(file))
		}
		key := s.prefix + path.Join(backup, file)
		if err := s.client.FGetObject(ctx, s.bucket, key, filepath.Join(parts, filepath.FromSlash(file)), minio.GetObjectOptions{}); err != nil {
			return fmt.Errorf("fetch object %s: %w", key, err)
		}
	}
	return os.Rename(parts, to)
}

// prune removes all but the newest complete backups, and older ones that were
// never finished.
func (s *store) prune(ctx context.Context, keep int) error {
	all, err := s.backups(ctx, "")
	if err != nil {
		return err
	}
	complete := completeOf(all)
	if len(complete) == 0 {
		return nil
	}
	kept := complete[:min(keep, len(complete))]
	var gone error
	for backup, files := range all {
		if slices.Contains(kept, backup) || backup > complete[0] {
			continue
		}
		slices.SortFunc(files, func(a, b string) int { return cmp.Compare(order(a), order(b)) })
		gone = errors.Join(gone, s.remove(ctx, backup, files))
	}
	return gone
}

// order is 0 for the manifest, which goes first.
func order(file string) int {
	if file == manifestFile {
		return 0
	}
	return 1
}

func (s *store) remove(ctx context.Context, backup string, files []string) error {
	for _, file := range files {
		if err := s.client.RemoveObject(ctx, s.bucket, s.prefix+backup+"/"+file, minio.RemoveObjectOptions{}); err != nil {
			return fmt.Errorf("remove backup %s: %w", backup, err)
		}
	}
	s.logger.Info("old backup removed", "backup", backup, "objects", len(files))
	return nil
}
