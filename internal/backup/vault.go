package backup

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// What keeps a backup from those who can read or change its directory, and what
// takes either: each is of use without the other.
//
//	recipients: streams ──age──▶ files ──SHA-256──▶ manifest ──▶ signature: signing key
//	  identity: streams ◀──age── files ◀──SHA-256── manifest ◀── signature: public key

// encryptedSuffix ends the name of an encrypted file.
const encryptedSuffix = ".age"

// vault writes the files of a backup: encrypted, where there are recipients.
type vault []age.Recipient

// newVault reads recipients.
func newVault(recipients []string) (vault, error) {
	var v vault
	for _, text := range recipients {
		list, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(list) != 1 {
			return nil, errors.New("expected recipients of age, such as age1…")
		}
		v = append(v, list...)
	}
	return v, nil
}

// sum is what the manifest says of a file as it is on disk.
type sum struct {
	bytes  int64
	sha256 string
}

// write writes a file that is on disk when it returns.
func (v vault) write(path string, fill func(io.Writer) error) (sum, error) {
	hash, size := sha256.New(), counter(0)
	write := func(w io.Writer) error {
		w = io.MultiWriter(w, hash, &size)
		if len(v) == 0 {
			return fill(w)
		}
		encrypted, err := age.Encrypt(w, v...)
		if err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		if err := fill(encrypted); err != nil {
			return err // without its end the file can be taken for nothing
		}
		return encrypted.Close()
	}
	if len(v) > 0 {
		path += encryptedSuffix
	}
	err := writeFile(path, write)
	return sum{int64(size), hex.EncodeToString(hash.Sum(nil))}, err
}

// keys are what opens a vault, and says whose it is.
type keys struct {
	identities []age.Identity
	public     ed25519.PublicKey // nil: anybody's will do
}

var errNoIdentity = errors.New("the backup is encrypted: expected BACKUP_IDENTITY or BACKUP_IDENTITY_FILE, the age identity (AGE-SECRET-KEY-1…) of one of its recipients")

// open returns what a file holds. Reading fails, before its end at the latest, if
// the file is not the one whose SHA-256 sum the manifest has; "" is any.
func (k keys) open(path, sha256Sum string, encrypted bool) (content io.Reader, done io.Closer, err error) {
	if encrypted {
		path += encryptedSuffix
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	checked := newCheckedReader(file, sha256Sum)
	if !encrypted {
		return checked, file, nil
	}
	content, err = k.decrypt(checked)
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return content, file, nil
}

func (k keys) decrypt(from io.Reader) (io.Reader, error) {
	if len(k.identities) == 0 {
		return nil, errNoIdentity
	}
	content, err := age.Decrypt(from, k.identities...)
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		return nil, errors.New("BACKUP_IDENTITY is the identity of none of the backup's recipients")
	}
	var changed *changedError
	switch {
	case errors.As(err, &changed):
		return nil, changed
	case err != nil: // which may be as long as the file
		return nil, errors.New("it is nothing that age has encrypted, or was changed since")
	}
	return content, nil
}

// changedError is said of a file that has another sum than the manifest has.
type changedError struct{ got, want string }

// Error implements error.
func (e *changedError) Error() string {
	return fmt.Sprintf("it has the SHA-256 sum %s, expected %s: it was changed, or not copied as a whole", e.got, e.want)
}

// checkedReader has an error instead of an end where the sum is another one.
type checkedReader struct {
	from io.Reader
	hash hash.Hash
	want string
}

func newCheckedReader(from io.Reader, want string) *checkedReader {
	return &checkedReader{from: from, hash: sha256.New(), want: want}
}

// Read implements io.Reader.
func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	_, _ = r.hash.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) && r.want != "" {
		if got := hex.EncodeToString(r.hash.Sum(nil)); got != r.want {
			return n, &changedError{got, r.want}
		}
	}
	return n, err
}

// parseIdentities reads identities as age-keygen writes them.
func parseIdentities(text settings.Secret) ([]age.Identity, error) {
	if text == "" {
		return nil, nil
	}
	list, err := age.ParseIdentities(strings.NewReader(string(text)))
	if err != nil {
		return nil, errors.New("expected identities of age, AGE-SECRET-KEY-1…, one a line") // the error may quote one
	}
	return list, nil
}

var errSigningKey = errors.New("expected an Ed25519 private key (PEM), as openssl genpkey -algorithm ed25519 makes it")

// parseSigningKey reads the private key; nil if there is none.
func parseSigningKey(text settings.Secret) (ed25519.PrivateKey, error) {
	if text == "" {
		return nil, nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errSigningKey
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errSigningKey
	}
	return key, nil
}

// readPublicKey reads the public key's file; nil if there is none.
func readPublicKey(path string) (ed25519.PublicKey, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	expected := errors.New("expected an Ed25519 public key (PEM), as openssl pkey -pubout makes it")
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, expected
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, expected
	}
	return key, nil
}
