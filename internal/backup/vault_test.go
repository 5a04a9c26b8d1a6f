package backup_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// keyPair is the operator's, who signs backups.
func keyPair(t *testing.T) (private settings.Secret, publicFile string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	publicFile = filepath.Join(t.TempDir(), "public.pem")
	require.NoError(t, os.WriteFile(publicFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), 0o600))
	return settings.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), publicFile
}

func identity(t *testing.T) (recipient string, secret settings.Secret) {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return i.Recipient().String(), settings.Secret("# created: by a test\n" + i.String() + "\n")
}

// newest returns the directory of the newest backup.
func newest(t *testing.T, dir string) string {
	t.Helper()
	names, err := backup.Names(dir)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	return filepath.Join(dir, names[0])
}

func eachFile(t *testing.T, dir string, f func(path string, content []byte)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		f(path, content)
		return nil
	}))
}

func TestAnEncryptedBackupIsRestoredWithAnIdentityOfARecipientAlone(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	g.publish("orchestrator-of-the-test", "event")
	recipient, secret := identity(t)
	second, secondSecret := identity(t)
	_, stranger := identity(t)
	require.NoError(t, g.backUp(dir, func(c *backup.Config) { c.BackupRecipients = []string{recipient, second} }))
	encrypted := 0
	eachFile(t, newest(t, dir), func(path string, content []byte) {
		require.NotContains(t, string(content), "orchestrator-of-the-test", path)
		if filepath.Ext(path) == ".age" {
			require.True(t, bytes.HasPrefix(content, []byte("age-encryption.org/v1\n")), path)
			encrypted++
		}
	})
	require.Greater(t, encrypted, 10)

	with := func(s settings.Secret) func(*backup.RestoreConfig) {
		return func(c *backup.RestoreConfig) { c.BackupIdentity = s }
	}
	require.ErrorContains(t, g.restore(dir, replace), "expected BACKUP_IDENTITY")
	require.ErrorContains(t, g.restore(dir, replace, with(stranger)), "of none of the backup's recipients")
	require.Equal(t, 1, g.messages(), "nothing was deleted")
	for _, s := range []settings.Secret{secret, secondSecret} {
		r := onServer(t)
		require.NoError(t, r.restore(dir, with(s)))
		r.open()
		require.Equal(t, 1, r.messages())
	}
}

// messages counts the events of an orchestrator.
func (g *gateway) messages() int {
	g.t.Helper()
	const orchestrator = "orchestrator-of-the-test"
	page, err := g.log.Read(g.t.Context(), g.log.Partition(orchestrator), orchestrator, 0, 10, 1<<20)
	require.NoError(g.t, err)
	return len(page.Messages)
}

func TestASignedBackupThatWasChangedIsRefused(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	g.publish("orchestrator-of-the-test", "event")
	private, public := keyPair(t)
	otherPrivate, otherPublic := keyPair(t)
	require.NoError(t, g.backUp(dir, func(c *backup.Config) { c.BackupSigningKey = private }))
	signed := func(file string) func(*backup.RestoreConfig) {
		return func(c *backup.RestoreConfig) { c.BackupPublicKeyFile = file }
	}
	require.ErrorContains(t, g.restore(dir, replace, signed(otherPublic)), "not the signature of manifest.json")

	place := newest(t, dir)
	manifest, signature := filepath.Join(place, "manifest.json"), filepath.Join(place, "manifest.json.sig")
	data := filepath.Join(place, "DAEMON_EVENTS_0", "stream.tar.s2")
	description := filepath.Join(place, "DAEMON_EVENTS_0", "backup.json")
	for name, test := range map[string]struct {
		file   string
		change func([]byte) []byte
		want   string
	}{
		"manifest":              {manifest, func(b []byte) []byte { return bytes.Replace(b, []byte(`"messages": 0`), []byte(`"messages": 7`), 1) }, "the manifest was changed"},
		"signature":             {signature, func(b []byte) []byte { return append(b[:1:1], b...)[:len(b)] }, "the manifest was changed"},
		"no signature":          {signature, nil, "the signature was taken away"},
		"data":                  {data, func(b []byte) []byte { b[len(b)-1]++; return b }, "DAEMON_EVENTS_0: stream.tar.s2: it has the SHA-256 sum"},
		"data cut":              {data, func(b []byte) []byte { return b[:len(b)-1] }, "it has the SHA-256 sum"},
		"limits of the stream":  {description, func(b []byte) []byte { return bytes.Replace(b, []byte(`"max_age"`), []byte(`"max_ag3"`), 1) }, "backup.json: it has the SHA-256 sum"},
		"no data":               {data, nil, "no such file"},
		"manifest that is long": {manifest, func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), 4<<20)...) }, "has over"},
	} {
		before, err := os.ReadFile(test.file)
		require.NoError(t, err)
		if test.change == nil {
			require.NoError(t, os.Remove(test.file))
		} else {
			require.NoError(t, os.WriteFile(test.file, test.change(bytes.Clone(before)), 0o600))
		}
		require.ErrorContains(t, g.restore(dir, replace, signed(public)), test.want, name)
		require.NoError(t, os.WriteFile(test.file, before, 0o600))
	}
	require.Equal(t, 1, g.messages(), "nothing was deleted")

	renamed := filepath.Join(dir, "29990101T000000Z")
	require.NoError(t, os.Rename(place, renamed))
	require.ErrorContains(t, g.restore(dir, replace, signed(public)), "the directory was renamed")
	require.NoError(t, os.Rename(renamed, place))
	require.NoError(t, g.restore(dir, replace, signed(public)))

	require.NoError(t, g.backUp(dir, func(c *backup.Config) { c.BackupSigningKey = otherPrivate }))
	require.ErrorContains(t, g.restore(dir, replace, signed(public)), "is another's")
}

// Format 1 had no sums of descriptions, and is of the version before.
func TestABackupOfTheFormatBeforeIsRestored(t *testing.T) {
	t.Parallel()
	g, dir := newGateway(t), t.TempDir()
	g.publish("orchestrator-of-the-test", "event")
	require.NoError(t, g.backUp(dir))
	path := filepath.Join(newest(t, dir), "manifest.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text = regexp.MustCompile(`,\s*"description_sha256": "[0-9a-f]*"`).ReplaceAll(text, nil)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	require.ErrorContains(t, g.restore(dir, replace), "has no SHA-256 sum")
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte(`"format": 2`), []byte(`"format": 1`), 1), 0o600))
	require.NoError(t, g.restore(dir, replace))
	g.open()
	require.Equal(t, 1, g.messages())
}

func TestKeysOfBackupsThatCannotBeUsedAreReportedWithoutShowingThem(t *testing.T) {
	t.Parallel()
	private, public := keyPair(t)
	_, secret := identity(t)
	for want, cfg := range map[string]settings.Validator{
		"BACKUP_RECIPIENTS":      &backup.Config{BackupRecipients: []string{string(secret)}},
		"BACKUP_SIGNING_KEY":     &backup.Config{BackupSigningKey: "AGE-SECRET-KEY-1QQ"},
		"BACKUP_IDENTITY":        &backup.RestoreConfig{BackupIdentity: "AGE-SECRET-KEY-1QQ"},
		"BACKUP_PUBLIC_KEY_FILE": &backup.RestoreConfig{BackupPublicKeyFile: "/not/there"},
	} {
		problems := map[string]string{}
		cfg.Validate(func(setting, problem string) { problems[setting] = problem })
		require.Contains(t, problems, want)
		require.NotContains(t, problems[want], "SECRET-KEY-1QQ")
		require.Len(t, problems, 1)
	}
	(&backup.Config{BackupSigningKey: private}).Validate(func(setting, problem string) { t.Error(setting, problem) })
	(&backup.RestoreConfig{BackupIdentity: secret, BackupPublicKeyFile: public}).Validate(func(setting, problem string) { t.Error(setting, problem) })
}
