package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
)

// sampleManifest names all streams of a gateway with a partition.
func sampleManifest() Manifest {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	m := Manifest{Format: format, Gateway: "v1", Began: at, Ended: at, Epochs: []eventlog.Epoch{eventlog.NewEpoch(at, 1)}}
	for _, name := range inOrder(1) {
		m.Streams = append(m.Streams, Stream{Name: name, SHA256: "00", DescriptionSHA256: "00"})
	}
	return m
}

// A manifest leads to no file and to no stream but those of a gateway.
func FuzzManifests(f *testing.F) {
	good, err := encoded(sampleManifest())
	require.NoError(f, err)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("DAEMON_EVENTS_0"), []byte("../../../etc/x"), 1))
	f.Add(bytes.Replace(good, []byte(`"format": 2`), []byte(`"format": 1e999`), 1))
	f.Add([]byte(`{"format":1,"epochs":["x"],"streams":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil {
			require.Zero(t, m)
			quotetest.RequireLittle(t, text, err)
			return
		}
		known := inOrder(len(m.Epochs))
		require.LessOrEqual(t, len(m.Streams), len(known))
		for _, s := range m.Streams {
			require.Contains(t, known, s.Name)
			require.True(t, filepath.IsLocal(s.Name))
		}
		written, err := encoded(m)
		require.NoError(t, err)
		again, err := parseManifest(written)
		require.NoError(t, err)
		rewritten, err := encoded(again)
		require.NoError(t, err)
		require.Equal(t, string(written), string(rewritten))
	})
}

// A description is of the stream that it stands beside, or refused.
func FuzzDescriptions(f *testing.F) {
	f.Add([]byte(`{"config":{"name":"DAEMON_EVENTS_0","max_age":17,"num_replicas":3},"state":{"messages":1}}`))
	f.Add([]byte(`{"config":{"name":"OTHER","republish":{"dest":">"}},"state":null}`))
	f.Add([]byte(`{"config":7}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseDescription(text, "DAEMON_EVENTS_0")
		if err != nil {
			quotetest.RequireLittle(t, text, err)
			return
		}
		config, err := with(d.Config, map[string]any{"num_replicas": 1})
		require.NoError(t, err)
		_, err = parseDescription(fmt.Appendf(nil, `{"config":%s}`, config), "DAEMON_EVENTS_0")
		require.NoError(t, err)
	})
}

// Whatever stands in the place of an archive: it is read as what was written, or
// not to its end.
func FuzzArchives(f *testing.F) {
	i, err := age.GenerateX25519Identity()
	require.NoError(f, err)
	v, err := newVault([]string{i.Recipient().String()})
	require.NoError(f, err)
	k := keys{identities: []age.Identity{i}}
	const content = "what the server has handed out"
	path := filepath.Join(f.TempDir(), dataFile)
	told, err := v.write(path, func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	})
	require.NoError(f, err)
	written, err := os.ReadFile(path + encryptedSuffix)
	require.NoError(f, err)
	f.Add(written)
	f.Add(written[:len(written)-1])
	f.Add(append(slices.Clone(written), 0))
	f.Add([]byte("age-encryption.org/v1\n" + strings.Repeat("-> X25519 x\n", 20)))
	f.Fuzz(func(t *testing.T, data []byte) {
		same := bytes.Equal(data, written)
		for _, from := range []io.Reader{newCheckedReader(bytes.NewReader(data), told.sha256), newCheckedReader(bytes.NewReader(data), "")} {
			opened, err := k.decrypt(from)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(opened)
			}
			if err == nil {
				require.Equal(t, content, string(got), "nobody else has the key of this file")
			}
			require.True(t, err == nil || !same)
			quotetest.RequireLittle(t, data, err)
		}
		_, err := io.ReadAll(newCheckedReader(bytes.NewReader(data), told.sha256))
		require.Equal(t, same, err == nil)
		require.False(t, errors.Is(err, io.EOF))
	})
}
