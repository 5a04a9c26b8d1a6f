package backup

import (
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/backup/snapshot"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/quote"
)

// The files of a backup: the manifest, and for each stream a directory with what
// `nats stream backup` makes and `nats stream restore` takes.
const (
	manifestFile = "manifest.json"
	// signatureFile holds the Ed25519 signature of the manifest's bytes.
	signatureFile   = "manifest.json.sig"
	descriptionFile = "backup.json"
	dataFile        = "stream.tar.s2"
	// unfinished ends the name of a backup that is being taken.
	unfinished = ".unfinished"
	// nameLayout is when a backup began, in UTC; names sort by time.
	nameLayout = "20060102T150405Z"
	// format is the version of the layout. History: 1, the first; 2, files may be
	// encrypted, and the manifest has the sums of all.
	format = 2
	// maxPartitions is the most that PARTITIONS may be.
	maxPartitions = 1024
	// maxManifestBytes and maxDescriptionBytes are far more than there can be.
	maxManifestBytes    = 4 << 20
	maxDescriptionBytes = 1 << 20
)

// Manifest says what a backup holds.
type Manifest struct {
	Format int `json:"format"`
	// Encrypted: all files but the manifest and its signature are.
	Encrypted bool `json:"encrypted,omitempty"`
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
	// Bytes and SHA256 are of its data as the backup holds it, compressed and maybe
	// encrypted.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// DescriptionSHA256 is of its description; empty in format 1.
	DescriptionSHA256 string `json:"description_sha256,omitempty"`
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

// Read returns the manifest of a backup that is not encrypted, whoever made it,
// after having checked that all that it names is there and as it was.
func Read(dir string) (Manifest, error) { return read(dir, keys{}) }

// read returns the manifest of a backup, after having checked that all that it
// names is there and as it was, and can be decrypted.
func read(dir string, k keys) (Manifest, error) {
	text, err := readBounded(filepath.Join(dir, manifestFile), maxManifestBytes)
	if err != nil {
		return Manifest{}, err
	}
	if k.public != nil {
		if err := verifySignature(dir, text, k.public); err != nil {
			return Manifest{}, err
		}
	}
	m, err := parseManifest(text)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestFile, err)
	}
	if k.public != nil && m.Began.Format(nameLayout) != filepath.Base(dir) {
		// An old backup under a newer name would be restored instead of a newer one.
		return Manifest{}, fmt.Errorf("%s is of %s: the directory was renamed", manifestFile, m.Began.Format(nameLayout))
	}
	for _, s := range m.Streams {
		if _, err := k.description(dir, m, s); err != nil {
			return Manifest{}, fmt.Errorf("stream %s: %s: %w", s.Name, descriptionFile, err)
		}
		if err := k.readThrough(dir, m, s); err != nil {
			return Manifest{}, fmt.Errorf("stream %s: %s: %w", s.Name, dataFile, err)
		}
	}
	return m, nil
}

// readBounded is os.ReadFile for files of others.
func readBounded(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has over %d bytes", filepath.Base(path), most)
	}
	return text, err
}

func verifySignature(dir string, manifest []byte, public ed25519.PublicKey) error {
	signature, err := readBounded(filepath.Join(dir, signatureFile), ed25519.SignatureSize)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s: the backup is not signed, or the signature was taken away", signatureFile)
	}
	if err != nil {
		return err
	}
	if !ed25519.Verify(public, manifest, signature) {
		return fmt.Errorf("%s is not the signature of %s by the key of BACKUP_PUBLIC_KEY_FILE: the manifest was changed, or is another's", signatureFile, manifestFile)
	}
	return nil
}

// parseManifest reads a manifest, and refuses one that names anything but the
// streams of a gateway: their names lead to files, and to what is written.
func parseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, errors.New("is no manifest: expected a JSON object as gatewayctl backup writes it")
	}
	if m.Format < 1 || m.Format > format {
		return Manifest{}, fmt.Errorf("is of format %d, expected 1 to %d", m.Format, format)
	}
	if n := len(m.Epochs); n < 1 || n > maxPartitions {
		return Manifest{}, fmt.Errorf("has the epochs of %d partitions, expected 1 to %d", n, maxPartitions)
	}
	missing := inOrder(len(m.Epochs))
	for _, s := range m.Streams {
		at := slices.Index(missing, s.Name)
		if at < 0 {
			return Manifest{}, fmt.Errorf("names %q, which is no stream of a gateway, or stands there twice", quote.Cut(s.Name))
		}
		missing = slices.Delete(missing, at, at+1)
	}
	for _, name := range missing {
		if !slices.Contains(optional, name) {
			return Manifest{}, fmt.Errorf("lacks stream %s", name)
		}
	}
	for _, s := range m.Streams {
		if s.SHA256 == "" || s.DescriptionSHA256 == "" && m.Format > 1 {
			return Manifest{}, fmt.Errorf("stream %s: has no SHA-256 sum", s.Name)
		}
	}
	return m, nil
}

// description returns the description of a stream, which is of that stream.
func (k keys) description(dir string, m Manifest, s Stream) (d snapshot.Description, err error) {
	content, file, err := k.open(filepath.Join(dir, s.Name, descriptionFile), s.DescriptionSHA256, m.Encrypted)
	if err != nil {
		return d, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(content, maxDescriptionBytes+1))
	if err != nil {
		return d, err
	}
	return parseDescription(text, s.Name)
}

func parseDescription(text []byte, stream string) (d snapshot.Description, err error) {
	var config struct {
		Name string `json:"name"`
	}
	if len(text) > maxDescriptionBytes || json.Unmarshal(text, &d) != nil || json.Unmarshal(d.Config, &config) != nil {
		return snapshot.Description{}, errors.New("is no description of a stream")
	}
	if config.Name != stream {
		return snapshot.Description{}, fmt.Errorf("describes another stream, %q", quote.Cut(config.Name))
	}
	return d, nil
}

// readThrough reads the data of a stream to its end.
func (k keys) readThrough(dir string, m Manifest, s Stream) error {
	content, file, err := k.open(filepath.Join(dir, s.Name, dataFile), s.SHA256, m.Encrypted)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	_, err = io.Copy(io.Discard, content)
	return err
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

// writeManifest writes a manifest, and its signature if there is a key.
func writeManifest(dir string, m Manifest, key ed25519.PrivateKey) error {
	text, err := encoded(m)
	if err != nil {
		return err
	}
	write := func(name string, content []byte) error {
		return writeFile(filepath.Join(dir, name), func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
	}
	if key != nil {
		if err := write(signatureFile, ed25519.Sign(key, text)); err != nil {
			return err
		}
	}
	return write(manifestFile, text)
}

func encoded(value any) ([]byte, error) {
	text, err := json.MarshalIndent(value, "", "  ")
	return append(text, '\n'), err
}

// writeFile is for files that hold users' events, or what leads to them. They are
// on disk when it returns.
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
