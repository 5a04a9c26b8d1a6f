package testserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// copyFiles begins anew when a file vanishes: the server removes those of a
// stream that was deleted in the background, and goes on when it has been stopped.
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

// backupTimeout bounds a backup and a restore through the API.
const backupTimeout = 30 * time.Second

// Backup is a stream as JetStream's API hands it out.
type Backup struct {
	stream string
	config json.RawMessage
	state  json.RawMessage
	chunks [][]byte
}

// BackUp takes a backup of a stream through JetStream's API.
func BackUp(t testing.TB, js jetstream.JetStream, stream string) *Backup {
	t.Helper()
	b, err := backUp(js.Conn(), stream)
	if err != nil {
		t.Fatalf("back up stream %s: %v", stream, err)
	}
	return b
}

func backUp(nc *nats.Conn, stream string) (*Backup, error) {
	ctx, cancel := context.WithTimeout(context.Background(), backupTimeout)
	defer cancel()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	var info struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	request := map[string]any{"deliver_subject": inbox, "no_consumers": true}
	if err := apiRequest(ctx, nc, "$JS.API.STREAM.SNAPSHOT."+stream, request, &info); err != nil {
		return nil, err
	}
	b := &Backup{stream: stream, config: info.Config, state: info.State}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		if len(msg.Data) == 0 {
			return b, nil
		}
		b.chunks = append(b.chunks, msg.Data)
		if msg.Reply == "" {
			continue // not every chunk is to be confirmed
		}
		if err := msg.Respond(nil); err != nil {
			return nil, err
		}
	}
}

// Restore deletes the stream and creates it from the backup through JetStream's
// API. JetStream refuses if somebody else creates the stream meanwhile.
func (b *Backup) Restore(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	if err := b.restore(js); err != nil {
		t.Fatalf("restore stream %s: %v", b.stream, err)
	}
}

func (b *Backup) restore(js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(context.Background(), backupTimeout)
	defer cancel()
	if err := js.DeleteStream(ctx, b.stream); err != nil {
		return err
	}
	var where struct {
		Subject string `json:"deliver_subject"`
	}
	request := map[string]any{"config": b.config, "state": b.state}
	if err := apiRequest(ctx, js.Conn(), "$JS.API.STREAM.RESTORE."+b.stream, request, &where); err != nil {
		return err
	}
	for _, chunk := range b.chunks {
		if _, err := js.Conn().RequestWithContext(ctx, where.Subject, chunk); err != nil {
			return err
		}
	}
	return apiRequest(ctx, js.Conn(), where.Subject, nil, &struct{}{})
}

// apiRequest puts a request to JetStream's API; nil is an empty one.
func apiRequest(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	msg, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return err
	}
	var refusal struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &refusal); err != nil {
		return fmt.Errorf("%s answers %q: %w", subject, msg.Data, err)
	}
	if refusal.Error != nil {
		return refusal.Error
	}
	return json.Unmarshal(msg.Data, answer)
}
