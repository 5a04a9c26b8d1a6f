package lab

import (
	"bytes"
	"context"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type choice struct{ name, what string }

func selection(t *testing.T, arguments ...string) (*Selection[choice], *flag.FlagSet, error) {
	t.Helper()
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(&bytes.Buffer{})
	all := []choice{{"kill-edge", "an edge"}, {"pause-nats", ""}, {"pause-all-nats", ""}, {"kill-all-edges", ""}}
	s := Select(flags, "faults", "faults", all, func(c choice) (string, string) { return c.name, c.what })
	return s, flags, flags.Parse(arguments)
}

func TestWhatASelectionTakesIsChosenByPatternsEachOnce(t *testing.T) {
	t.Parallel()
	s, _, err := selection(t)
	require.NoError(t, err)
	require.Len(t, s.Chosen(), 4)
	s, _, err = selection(t, "-faults", "kill-edge,pause-*nats*,kill-*edge*")
	require.NoError(t, err)
	require.Equal(t, []choice{{"kill-edge", "an edge"}, {"pause-nats", ""}, {"pause-all-nats", ""}, {"kill-all-edges", ""}}, s.Chosen())
	s, _, err = selection(t, "-faults", "pause-all-nats,pause-*")
	require.NoError(t, err)
	require.Equal(t, []choice{{"pause-all-nats", ""}, {"pause-nats", ""}}, s.Chosen(), "in the order of the patterns")
	_, _, err = selection(t, "-faults", "kill-edge,nonsense")
	require.ErrorContains(t, err, `nothing matches "nonsense"`)
	_, _, err = selection(t, "-faults", "[")
	require.ErrorContains(t, err, "syntax error in pattern")
}

func TestASelectionListsWhatThereIs(t *testing.T) {
	t.Parallel()
	_, flags, err := selection(t, "-faults", "list")
	require.NoError(t, err)
	list, asked := ask(flags)
	require.True(t, asked)
	require.Contains(t, list, "kill-edge                an edge\n")
	_, flags, _ = selection(t, "-faults", "*")
	_, asked = ask(flags)
	require.False(t, asked)
}

func TestATableIsMarkdown(t *testing.T) {
	t.Parallel()
	table := NewTable("what", "count")
	table.Row("events published", 1200)
	var out bytes.Buffer
	require.NoError(t, table.Print(&out))
	require.Equal(t, "\n| what             | count |\n| ---              | ---   |\n| events published | 1200  |\n", out.String())
}

func TestPercentilesAreOfAllTimes(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	require.Equal(t, "50ms / 99ms / 100ms", Percentiles(all, time.Millisecond))
	require.Equal(t, 100*time.Millisecond, all[0], "it changes nothing")
	require.Equal(t, "–", Percentiles(nil, time.Millisecond))
}

func TestARunWithFindingsFails(t *testing.T) {
	t.Parallel()
	w := &World{began: time.Now()}
	w.Find("%s is lost\nits story", "e-1")
	require.Equal(t, []string{"e-1 is lost\nits story"}, w.Findings())
}

func TestScenariosAreFoundByName(t *testing.T) {
	t.Parallel()
	s := Scenario{Name: "quiet", What: "nothing", New: func(*flag.FlagSet) Run { return func(context.Context, *World) error { return nil } }}
	require.Equal(t, good, Main([]string{"list"}, s))
	require.Equal(t, good, Main([]string{"quiet", "-h"}, s))
	require.Equal(t, failed, Main([]string{"quiet", "-nonsense"}, s))
	require.Equal(t, failed, Main([]string{"loud"}, s))
	require.Equal(t, failed, Main(nil, s))
}
