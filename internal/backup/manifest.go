package backup

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// The files of a backup: the manifest, and for each stream a directory with what
// `nats stream backup` makes and `nats stream restore` takes.
const (
	manifestFile    = "manifest.json"
	descriptionFile = "backup.json"
	dataFile        = "stream.tar.s2"
	// unfinished ends the name of a backup that is being taken.
	unfinished = ".unfinished"
	// nameLayout is when a backup began, in UTC; names sort by time.
	nameLayout = "20060102T150405Z"
	// format is the version of the layout. History: 1, the first.
	format = 1
)

// Manifest says what a backup holds.
type Manifest struct {
	Format int `json:"format"`
	// Gateway is the version of the program that took it.
	Gateway string `json:"gateway"`
	// Began and Ended say when it was taken. What was published before Began is
	// in it, what was published after Ended is not.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Epochs are those of the partitions.
	Epochs  []eventlog.Epoch `json:"epochs"`
	Streams []Stream         `json:"streams"`
}

// Stream is a stream of a backup.
type Stream struct {
	Name string `json:"name"`
	// Taken is when its snapshot began.
	Taken    time.Time `json:"taken"`
	Messages uint64    `json:"messages"`
	First    uint64    `json:"first_seq"`
	Last     uint64    `json:"last_seq"`
	// Bytes and SHA256 are of its data as the backup holds it, compressed.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Messages counts those of all streams.
func (m Manifest) Messages() (n uint64) {
	for _, s := range m.Streams {
		n += s.Messages
	}
	return n
}

// Bytes is the size of the backup's data.
func (m Manifest) Bytes() (n int64) {
	for _, s := range m.Streams {
		n += s.Bytes
	}
	return n
}

// Names returns the complete backups in a directory, the newest first.
func Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, err := time.Parse(nameLayout, e.Name()); err == nil && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(b, a) })
	return names, nil
}

// Read returns the manifest of a backup, after having checked that all that it
// names is there and unchanged.
func Read(dir string) (Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestFile, err)
	}
	if m.Format != format {
		return Manifest{}, fmt.Errorf("%s is of format %d, expected %d", manifestFile, m.Format, format)
	}
	for _, s := range m.Streams {
		if err := s.verify(filepath.Join(dir, s.Name)); err != nil {
			return Manifest{}, fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	return m, nil
}

func (s Stream) verify(dir string) error {
	file, err := os.Open(filepath.Join(dir, dataFile))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != s.SHA256 {
		return fmt.Errorf("%s has the SHA-256 sum %s, expected %s: it was changed, or not copied as a whole", dataFile, sum, s.SHA256)
	}
	return nil
}

// prune removes all but the newest complete backups, and older ones that were
// never finished.
func prune(dir string, keep int) error {
	names, err := Names(dir)
	if err != nil {
		return err
	}
	var gone error
	for _, name := range names[min(keep, len(names)):] {
		gone = errors.Join(gone, os.RemoveAll(filepath.Join(dir, name)))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, left := strings.CutSuffix(e.Name(), unfinished)
		if _, err := time.Parse(nameLayout, name); left && err == nil && name < names[0] {
			gone = errors.Join(gone, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return gone
}

// writeJSON writes a file that is on disk when it returns.
func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// writeFile is for files that hold users' events, or what leads to them.
func writeFile(path string, write func(io.Writer) error) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := write(file); err != nil {
		return err
	}
	return file.Sync()
}
