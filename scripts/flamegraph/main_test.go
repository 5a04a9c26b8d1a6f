package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const traces = `File: edge
Type: cpu
Duration: 1s, Total samples = 1.03s
-----------+-------------------------------------------------------
         1s   runtime.mallocgc
             github.com/neolith/daemon-gateway/internal/edge.(*connection).Message (inline)
             main.main
-----------+-------------------------------------------------------
    thread:  name
      20ms   syscall.write
             main.main
-----------+-------------------------------------------------------
      10ms   internal/poll.read
             main.main
`

func TestSamplesOfOneCallerAreJoined(t *testing.T) {
	t.Parallel()
	root, err := read(strings.NewReader(traces))
	require.NoError(t, err)
	require.InDelta(t, 1.03, root.value, 1e-9)
	require.Len(t, root.called, 1)
	main := root.called["main.main"]
	require.InDelta(t, 1.03, main.value, 1e-9)
	message := main.called["internal/edge.(*connection).Message"]
	require.NotNil(t, message)
	require.InDelta(t, 1, message.called["runtime.mallocgc"].value, 1e-9)
	require.InDelta(t, 0.02, main.called["syscall.write"].value, 1e-9)
}

func TestWhatIsTooSmallIsNotDrawn(t *testing.T) {
	t.Parallel()
	root, err := read(strings.NewReader(traces))
	require.NoError(t, err)
	var text strings.Builder
	draw(&text, root, "an <edge>", 0.015)
	require.Contains(t, text.String(), "an &lt;edge&gt;")
	require.Contains(t, text.String(), "syscall.write: 1.9 %")
	require.NotContains(t, text.String(), "internal/poll.read")
}

func TestWithoutSamplesNothingIsDrawn(t *testing.T) {
	t.Parallel()
	_, err := read(strings.NewReader("File: edge\n"))
	require.Error(t, err)
}
