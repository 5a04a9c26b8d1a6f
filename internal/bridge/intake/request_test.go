package intake

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABodyIsSplitIntoItsElements(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][]string{
		` {"a":[1,2]} `:                      {`{"a":[1,2]}`},
		`[ {"a":","} ,null,"]", [1,2],-1.5]`: {`{"a":","}`, `null`, `"]"`, `[1,2]`, `-1.5`},
		`[{}]`:                               {`{}`},
	} {
		texts, err := split([]byte(body))
		require.NoError(t, err)
		var got []string
		for _, text := range texts {
			got = append(got, string(text))
		}
		require.Equal(t, want, got, body)
	}
	for body, want := range map[string]string{
		``: "not valid JSON", `[`: "not valid JSON", `1`: "expected one event", `[]`: "0 events",
		`[` + strings.Repeat("1,", MaxEvents) + `1]`: "more than 1000 events",
	} {
		_, err := split([]byte(body))
		require.ErrorContains(t, err, want)
	}
}

// Regression: 16 MiB of the smallest elements took 908 MiB. Not parallel, because
// it counts what is allocated.
func TestABodyOfTheSmallestElementsTakesNoMemory(t *testing.T) {
	body := []byte("[" + strings.Repeat("0,", maxBodyBytes/2-2) + "0]")
	require.LessOrEqual(t, len(body), maxBodyBytes)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := split(body)
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, "more than 1000 events")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(maxBodyBytes))
}
