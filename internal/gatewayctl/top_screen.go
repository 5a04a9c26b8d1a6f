package gatewayctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// topScreen is top in a terminal: package bubbletea gives it keys and looks, and
// draws its View.
type topScreen struct {
	look  func() tea.Msg // asks everybody
	every time.Duration

	view          *topView // the last one; nil before there is one
	problem       error    // why the last look failed
	width, height int      // of the terminal; 0: not known yet
}

// What a topScreen is told beside keys.
type (
	topLooked struct {
		view topView
		err  error
	}
	topDue struct{} // it is time to look again
)

// topScreen shows the cluster until a key or ctx ends it.
func (p *program) topScreen(ctx context.Context, t *topping, every time.Duration) error {
	screen := topScreen{every: every, look: func() tea.Msg {
		view, err := t.look(ctx)
		return topLooked{view, err}
	}}
	_, err := tea.NewProgram(screen, tea.WithContext(ctx), tea.WithInput(p.in), tea.WithOutput(p.out), tea.WithAltScreen(), tea.WithoutSignalHandler()).Run()
	if errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return nil // that is how one leaves
	}
	return err
}

// Init implements tea.Model.
func (s topScreen) Init() tea.Cmd { return s.look }

// Update implements tea.Model.
func (s topScreen) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch m := message.(type) {
	case tea.KeyMsg:
		return s.key(m.String())
	case tea.WindowSizeMsg:
		s.width, s.height = m.Width, m.Height
	case topLooked:
		s.problem = m.err
		if m.err == nil {
			s.view = &m.view
		}
		return s, tea.Tick(s.every, func(time.Time) tea.Msg { return topDue{} })
	case topDue:
		return s, s.look
	}
	return s, nil
}

func (s topScreen) key(name string) (tea.Model, tea.Cmd) {
	switch name {
	case "q", "esc", "ctrl+c":
		return s, tea.Quit
	case "+":
		s.every = max(leastPause, s.every/2)
	case "-":
		s.every = min(time.Minute, 2*s.every)
	}
	return s, nil
}

// View implements tea.Model.
func (s topScreen) View() string {
	var text bytes.Buffer
	fmt.Fprintf(&text, "gatewayctl top, every %s; q ends it, + and - change how often\n", s.every)
	if s.problem != nil {
		fmt.Fprintf(&text, "not answered: %v\n", s.problem)
	}
	if s.view != nil {
		table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		s.view.print(table)
		_ = table.Flush() // into memory
	}
	return s.fit(text.String())
}

// fit cuts what the terminal has no room for: wrapped lines would push the first ones
// out.
func (s topScreen) fit(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if s.height > 0 {
		lines = lines[:min(len(lines), s.height)]
	}
	for i, line := range lines {
		if runes := []rune(line); s.width > 0 && len(runes) > s.width {
			lines[i] = string(runes[:s.width])
		}
	}
	return strings.Join(lines, "\n")
}
