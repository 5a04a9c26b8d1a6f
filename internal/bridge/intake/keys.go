package intake

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/reread"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// holder is whose a key is.
type holder struct {
	name string
	// only is whom events may be for; nil: anybody.
	only map[protocol.OrchestratorID]struct{}
}

// mayPublishFor reports whether events for an orchestrator, as they name it, are
// taken with the key.
func (h *holder) mayPublishFor(id protocol.OrchestratorID) bool {
	_, named := h.only[id]
	return named || h.only == nil
}

// keys maps the SHA-256 of each API key to its holder. The hash is a plain one,
// because a key is 32 random bytes: nobody can try them all, and a slow hash
// would only make requests slow. Finding a hash in a map may take time that
// depends on it, which tells nothing about the key.
type keys map[[sha256.Size]byte]*holder

// maxLineBytes bounds a line, which may name many orchestrators.
const maxLineBytes = 1 << 20

// parseKeys reads lines of a name, a hash and the orchestrators, if they are not
// to be all; empty lines and those that begin with # are ignored. Where some are
// wrong, the others count, and wrong has what may be the names of those. The error
// is about the first of them, and tells the line and not what stands there: it may
// be a key that somebody forgot to hash.
func parseKeys(text []byte) (list keys, wrong []string, err error) {
	list = make(keys)
	names := make(map[string]bool)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxLineBytes)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		hash, ok := parseHash(fields)
		only, named := parseOrchestrators(fields)
		var problem error
		switch {
		case !ok:
			problem = fmt.Errorf("line %d: expected a name and 64 hexadecimal digits", n)
		case !named:
			problem = fmt.Errorf("line %d: expected ids of orchestrators behind the key", n)
		case names[fields[0]] || list[hash] != nil:
			problem = fmt.Errorf("line %d: the name or the key is in the file twice", n)
		default:
			names[fields[0]], list[hash] = true, &holder{name: fields[0], only: only}
			continue
		}
		if named { // else somebody wants the key to be for fewer than before
			wrong = append(wrong, fields[0])
		}
		if err == nil {
			err = problem
		}
	}
	if err == nil {
		err = lines.Err()
	}
	return list, wrong, err
}

func parseHash(fields []string) (hash [sha256.Size]byte, ok bool) {
	if len(fields) < 2 || len(fields[1]) != hex.EncodedLen(len(hash)) {
		return hash, false
	}
	_, err := hex.Decode(hash[:], []byte(fields[1]))
	return hash, err == nil
}

// parseOrchestrators reads what stands behind the hash.
func parseOrchestrators(fields []string) (only map[protocol.OrchestratorID]struct{}, ok bool) {
	if len(fields) <= 2 {
		return nil, true
	}
	only = make(map[protocol.OrchestratorID]struct{})
	for _, field := range fields[2:] {
		id := protocol.OrchestratorID(field)
		if id.Validate() != nil || id.Reserved() {
			return nil, false
		}
		only[id] = struct{}{}
	}
	return only, true
}

var errNoKeys = errors.New("expected at least one line with a name and the SHA-256 of a key")

// checkKeys reports what is wrong with a file at the start.
func checkKeys(path string) error {
	f := reread.File{Path: path, Take: func(text []byte) error {
		list, _, err := parseKeys(text)
		if err == nil && len(list) == 0 {
			err = errNoKeys
		}
		return err
	}}
	return f.Look()
}

// keyring is the keys as the file has them now: what is not in it any more is
// no key. Only a file that cannot be read leaves all as it was, and a line that
// cannot be read the key that its name had, unless another line has that name.
type keyring struct {
	file    *reread.File
	current atomic.Pointer[keys]
}

func newKeyring(path string, logger *slog.Logger, reg prometheus.Registerer) (*keyring, error) {
	k := &keyring{}
	k.current.Store(&keys{})
	k.file = &reread.File{Setting: "API_KEYS_FILE", Path: path, Take: k.take}
	if err := k.file.Look(); err != nil {
		return nil, err
	}
	k.file.Observe(logger, reg)
	metric.GaugeFunc(reg, "gateway_intake_api_keys", "API keys that may publish over HTTP now.", nil,
		func() float64 { return float64(len(*k.current.Load())) })
	return k, nil
}

func (k *keyring) take(text []byte) error {
	list, wrong, err := parseKeys(text)
	good := map[string]bool{}
	for _, h := range list {
		good[h.name] = true
	}
	for hash, h := range *k.current.Load() {
		if slices.Contains(wrong, h.name) && !good[h.name] && list[hash] == nil {
			list[hash] = h
		}
	}
	if err == nil && len(list) == 0 {
		err = errNoKeys
	}
	k.current.Store(&list)
	return err
}

// holder returns whose key it is; nil if it is nobody's.
func (k *keyring) holder(key string) *holder { return (*k.current.Load())[sha256.Sum256([]byte(key))] }
