package lab

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Story tells all that is known of a violation: what daemons and publishers saw,
// and what the nodes wrote meanwhile.
func (w *World) Story(v ledger.Violation) string {
	text, from, to := w.Ledger.StoryOf(v)
	return text + w.logLines(v.Event, v.Orchestrator, from, to)
}

// StoryOfEvent is Story for an event.
func (w *World) StoryOfEvent(orchestrator protocol.OrchestratorID, id string) string {
	return w.Story(ledger.Violation{Orchestrator: orchestrator, Event: id})
}

// logLines returns what the nodes wrote of an event and its orchestrator, and
// their warnings while it was on its way.
func (w *World) logLines(id string, orchestrator protocol.OrchestratorID, from, to time.Time) string {
	const most = 80
	var lines []string
	for _, n := range w.Nodes() {
		file, err := os.Open(n.LogFile())
		if err != nil {
			continue // never started
		}
		scanner := bufio.NewScanner(file)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			line := scanner.Text()
			about := id != "" && strings.Contains(line, `"`+id+`"`) || strings.Contains(line, `"`+string(orchestrator)+`"`)
			if about || isWarning(line) && within(line, from.Add(-2*time.Second), to.Add(5*time.Second)) {
				lines = append(lines, timeOf(line)+" "+n.Name()+" "+line)
			}
		}
		_ = file.Close()
	}
	slices.Sort(lines)
	return "  log lines of the nodes:\n    " + strings.Join(lines[:min(most, len(lines))], "\n    ") + "\n"
}

func isWarning(line string) bool {
	return strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`)
}

func timeOf(line string) string {
	_, rest, _ := strings.Cut(line, `"time":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

func within(line string, from, to time.Time) bool {
	t, err := time.Parse(time.RFC3339Nano, timeOf(line))
	return err == nil && t.After(from) && t.Before(to)
}
