package access

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/reread"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Origins says from where the daemons of single orchestrators may connect, as a
// file says now. Orchestrators that it does not name may connect from anywhere,
// and where there is no file, which is a nil *Origins, all may. Its methods may
// be called at any time.
type Origins struct {
	file    *reread.File
	changed func()
	current atomic.Pointer[origins]
}

// origins are address ranges by orchestrator. One that has none may connect from
// nowhere.
type origins map[protocol.OrchestratorID][]netip.Prefix

// CheckOrigins returns what is wrong with a file of orchestrators and address
// ranges.
func CheckOrigins(path string) error {
	f := reread.File{Path: path, Take: func(content []byte) error {
		_, err := parseOrigins(content)
		return err
	}}
	return f.Look()
}

// NewOrigins reads a file, which setting names; changed is called when it says
// something else.
func NewOrigins(setting, path string, changed func(), logger *slog.Logger, reg prometheus.Registerer) (*Origins, error) {
	o := &Origins{changed: changed}
	o.file = &reread.File{Setting: setting, Path: path, Take: o.take}
	if err := o.file.Look(); err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	o.file.Observe(logger, reg)
	return o, nil
}

// File is for who reads it again.
func (o *Origins) File() *reread.File { return o.file }

// Permit reports whether a daemon may connect from an address on behalf of an
// orchestrator, which may be known by several ids; each that is empty is not
// looked for.
func (o *Origins) Permit(from netip.Addr, ids ...protocol.OrchestratorID) bool {
	if o == nil {
		return true
	}
	current := *o.current.Load()
	for _, id := range ids {
		if ranges, limited := current[id]; limited && !contains(ranges, plain(from)) {
			return false
		}
	}
	return true
}

// take takes over what the file says. A mistake lets nobody in: of a line the
// ranges that can be read count, and whom the file does not name any more stays
// limited as long as some line of it cannot be read.
func (o *Origins) take(content []byte) error {
	list, err := parseOrigins(content)
	if before := o.current.Load(); err != nil && before != nil {
		for id, ranges := range *before {
			if _, named := list[id]; !named {
				list[id] = ranges
			}
		}
	}
	o.current.Store(&list)
	o.changed()
	return err
}

// maxLineBytes bounds a line, which may have many ranges.
const maxLineBytes = 1 << 20

// parseOrigins reads lines of an orchestrator's id and the address ranges of its
// daemons; empty lines and those that begin with # are ignored, and an id may
// have several lines. The error is about the first thing that cannot be read.
func parseOrigins(content []byte) (list origins, err error) {
	list = make(origins)
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxLineBytes)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		id := protocol.OrchestratorID(fields[0])
		var lineErr error
		if id.Validate() != nil || id.Reserved() {
			lineErr = fmt.Errorf("line %d: expected the id of an orchestrator first", n)
		} else {
			var ranges []netip.Prefix
			ranges, lineErr = ParseRanges(fields[1:])
			list[id] = append(list[id], ranges...)
			if lineErr != nil {
				lineErr = fmt.Errorf("line %d: %w", n, lineErr)
			}
		}
		if err == nil {
			err = lineErr
		}
	}
	if err == nil {
		err = lines.Err()
	}
	return list, err
}
