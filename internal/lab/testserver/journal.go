package testserver

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
)

// Journal is what a program of a test logs. It may be read while it is written.
type Journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *Journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(text)
}

// String returns all of it so far.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// Audited returns the lines of the audit log whose attribute has a value, of a
// journal of JSON objects.
func (j *Journal) Audited(attribute, value string) (lines []map[string]any) {
	for line := range strings.Lines(j.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == "audit" && m[attribute] == value {
			lines = append(lines, m)
		}
	}
	return lines
}
