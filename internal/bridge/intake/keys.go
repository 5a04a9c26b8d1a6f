package intake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// rereadInterval is how soon a changed file counts.
const rereadInterval = 5 * time.Second

// keys maps the SHA-256 of each API key to its name. The hash is a plain one,
// because a key is 32 random bytes: nobody can try them all, and a slow hash
// would only make requests slow. Finding a hash in a map may take time that
// depends on it, which tells nothing about the key.
type keys map[[sha256.Size]byte]string

// readKeys reads lines of a name and a hash; empty lines and those that begin
// with # are ignored. Errors name the line and not what stands there: it may be
// a key that somebody forgot to hash.
func readKeys(file string) (keys, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list := make(keys)
	names := make(map[string]bool)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		var hash [sha256.Size]byte
		if len(fields) != 2 || len(fields[1]) != hex.EncodedLen(len(hash)) {
			return nil, fmt.Errorf("line %d: expected a name and 64 hexadecimal digits", n)
		}
		if _, err := hex.Decode(hash[:], []byte(fields[1])); err != nil {
			return nil, fmt.Errorf("line %d: expected a name and 64 hexadecimal digits", n)
		}
		if names[fields[0]] || list[hash] != "" {
			return nil, fmt.Errorf("line %d: the name or the key is in the file twice", n)
		}
		names[fields[0]], list[hash] = true, fields[0]
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("expected at least one line with a name and the SHA-256 of a key")
	}
	return list, nil
}

// keyring is the keys as the file has them now. A file that cannot be used
// leaves the keys as they were.
type keyring struct {
	file    string
	logger  *slog.Logger
	current atomic.Pointer[keys]
	text    string // what was wrong last; owned by watch
}

func newKeyring(file string, logger *slog.Logger) (*keyring, error) {
	k := &keyring{file: file, logger: logger}
	list, err := readKeys(file)
	if err != nil {
		return nil, err
	}
	k.current.Store(&list)
	return k, nil
}

// name returns whose key it is.
func (k *keyring) name(key string) (string, bool) {
	name, ok := (*k.current.Load())[sha256.Sum256([]byte(key))]
	return name, ok
}

// watch reads the file again and again until ctx ends. It is small, and
// Kubernetes changes mounted files by moving links, so it is simply read.
func (k *keyring) watch(ctx context.Context) {
	ticker := time.NewTicker(rereadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.reread()
		}
	}
}

func (k *keyring) reread() {
	list, err := readKeys(k.file)
	switch {
	case err == nil:
		k.current.Store(&list)
		k.text = ""
	case err.Error() != k.text:
		k.text = err.Error()
		k.logger.Error("API keys cannot be read again; the ones known stay in force", "error", err)
	}
}
