package gatewayctl

import (
	"errors"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/operation"
)

var edgeOne = operation.Member{Tier: operation.Edge, Node: "edge-1"}

func viewWith(at time.Time, acknowledged float64) topView {
	return topView{
		At: at, Nodes: []topNode{{Member: edgeOne, Ready: true, Holds: map[string]int{"connections": 3}}},
		Busy:   []topBusy{{"orch", 3, 17}},
		counts: topCounted{edgeOne: {"acknowledged": acknowledged}},
	}
}

func TestRatesAreMadeOfTwoLooks(t *testing.T) {
	t.Parallel()
	began := time.Now()
	before, now := viewWith(began, 100), viewWith(began.Add(2*time.Second), 160)
	now.compare(nil)
	require.Zero(t, now.Rates)
	now.compare(&before)
	require.Equal(t, 30.0, now.Rates.Acknowledged)

	restarted := viewWith(began.Add(4*time.Second), 5)
	restarted.compare(&now)
	require.Zero(t, restarted.Rates.Acknowledged, "a node that has started again counts from zero")
	fresh := viewWith(began.Add(4*time.Second), 1000)
	now.counts = topCounted{}
	fresh.compare(&now)
	require.Zero(t, fresh.Rates.Acknowledged, "a node that is new has no look before")
}

func TestTheScreenShowsTheLastViewAndWhatFails(t *testing.T) {
	t.Parallel()
	looks := 0
	var s tea.Model = topScreen{every: 2 * time.Second, look: func() tea.Msg {
		looks++
		return topLooked{view: viewWith(time.Now(), 0)}
	}}
	tell := func(m tea.Msg) (c tea.Cmd) {
		s, c = s.Update(m)
		return c
	}
	require.NotNil(t, tell(s.Init()()))
	require.Equal(t, 1, looks)
	for _, want := range []string{"every 2s", "edge-1", "3 connections", "orch"} {
		require.Contains(t, s.View(), want)
	}
	tell(topLooked{err: errors.New("no node has answered")})
	require.Contains(t, s.View(), "not answered: no node has answered")
	require.Contains(t, s.View(), "edge-1")
	require.IsType(t, topLooked{}, tell(topDue{})())

	tell(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("+")})
	require.Contains(t, s.View(), "every 1s")
	for range 10 {
		tell(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("+")})
	}
	require.Contains(t, s.View(), "every 500ms")
	tell(tea.WindowSizeMsg{Width: 20, Height: 4})
	lines := strings.Split(s.View(), "\n")
	require.Len(t, lines, 4)
	for _, line := range lines {
		require.LessOrEqual(t, len(line), 20)
	}
	for _, key := range []tea.KeyMsg{{Type: tea.KeyRunes, Runes: []rune("q")}, {Type: tea.KeyCtrlC}, {Type: tea.KeyEsc}} {
		require.Equal(t, tea.Quit(), tell(key)())
	}
}
