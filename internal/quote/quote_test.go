package quote

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestCut(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "short", strings.Repeat("x", MaxBytes), strings.Repeat("é", MaxBytes/2)} {
		require.Equal(t, text, Cut(text))
	}
	require.Equal(t, strings.Repeat("x", MaxBytes)+"…", Cut(strings.Repeat("x", MaxBytes+1)))
	for shift := range 4 {
		for _, character := range []string{"é", "字", "😀"} {
			got := Cut(strings.Repeat("x", shift) + strings.Repeat(character, MaxBytes))
			require.True(t, utf8.ValidString(got), got)
			require.LessOrEqual(t, len(got), MaxBytes+len("…"))
			require.Greater(t, len(got), MaxBytes-utf8.UTFMax)
		}
	}
	require.Len(t, Cut(strings.Repeat("\x80", 1000)), MaxBytes-utf8.UTFMax+len("…"), "no text at all")
}
