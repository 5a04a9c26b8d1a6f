package testserver

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/backup/snapshot"
)

// Files is a copy of the files of streams, or of all that a server keeps.
type Files struct {
	server *NATSServer
	places map[string]string // where they belong, and where the copy is
}

// Copy stops the server, copies the files of the streams (all files, where none
// is named), and starts it again.
func (s *NATSServer) Copy(t testing.TB, streams ...string) *Files {
	t.Helper()
	root := filepath.Join(s.opts.StoreDir, "jetstream")
	f := &Files{server: s, places: map[string]string{}}
	if len(streams) == 0 {
		f.places[root] = t.TempDir()
	}
	for _, name := range streams {
		f.places[filepath.Join(root, "$G", "streams", name)] = t.TempDir()
	}
	s.Shutdown()
	for place, files := range f.places {
		if err := copyFiles(files, place); err != nil {
			t.Fatal(err)
		}
	}
	s.Start()
	return f
}

// copyFiles begins again when a file vanishes: the server removes those of a
// stream that was deleted in the background, and goes on when it has been
// stopped.
func copyFiles(to, from string) error {
	for {
		err := os.CopyFS(to, os.DirFS(from))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

// RollBack stops the server, puts the files back as they were when they were
// copied, and starts it again. It may be done more than once.
func (f *Files) RollBack(t testing.TB) {
	t.Helper()
	f.server.Shutdown()
	for place, files := range f.places {
		if err := errors.Join(os.RemoveAll(place), copyFiles(place, files)); err != nil {
			t.Fatal(err)
		}
	}
	f.server.Start()
}

// Backup is a stream as JetStream's API hands it out.
type Backup struct {
	stream      string
	description snapshot.Description
	data        bytes.Buffer
}

// BackUp takes a backup of a stream through JetStream's API.
func BackUp(t testing.TB, js jetstream.JetStream, stream string) *Backup {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	b := &Backup{stream: stream}
	var err error
	if b.description, err = snapshot.Take(ctx, js, stream, &b.data); err != nil {
		t.Fatalf("back up stream %s: %v", stream, err)
	}
	return b
}

// Restore deletes the stream and creates it from the backup through JetStream's
// API. JetStream refuses if somebody else creates the stream meanwhile.
func (b *Backup) Restore(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := js.DeleteStream(ctx, b.stream)
	if err == nil {
		err = snapshot.Restore(ctx, js, b.stream, b.description, bytes.NewReader(b.data.Bytes()))
	}
	if err != nil {
		t.Fatalf("restore stream %s: %v", b.stream, err)
	}
}
