package gatewayctl

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the reference into docs/gatewayctl.md")

// What the page says of the commands is what they say themselves; `make docs`
// writes it.
func TestThePageHasTheReference(t *testing.T) {
	t.Parallel()
	const page, heading = "../../docs/gatewayctl.md", "## Reference\n\n"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, after, found := strings.Cut(string(text), heading)
	require.True(t, found)
	var reference strings.Builder
	require.NoError(t, Reference(&reference))
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+heading+reference.String()), 0o644))
		return
	}
	require.Equal(t, reference.String(), after, "run make docs")
}

var (
	// documented are commands as pages show them: on lines of their own, and within
	// sentences.
	documented = regexp.MustCompile("(?m)(?:^ *(?:\\$ )?|`)(?:bin/)?gatewayctl ([^ `\\n][^`\\n]*)")
	// afterwards is what a shell does with a command, and what a page says of it.
	afterwards = regexp.MustCompile(` +(?:#|[|>&]).*`)
	word       = regexp.MustCompile(`'[^']*'|"[^"]*"|[^ ]+`)
)

// What any page tells one to run is a command that there is, with flags that it has.
func TestWhatPagesTellOneToRunIsUnderstood(t *testing.T) {
	t.Parallel()
	known := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, line := range documented.FindAllStringSubmatch(string(text), -1) {
			if strings.HasSuffix(line[1], "[flags]") { // of the reference
				continue
			}
			var words []string
			for _, w := range word.FindAllString(afterwards.ReplaceAllString(line[1], ""), -1) {
				words = append(words, strings.Trim(w, `'"`))
			}
			program := Command()
			program.InitDefaultCompletionCmd()
			command, rest, err := program.Find(words)
			require.NoError(t, err, "%s: %s", path, line[0])
			require.NoError(t, command.ParseFlags(rest), "%s: %s", path, line[0])
			known++
		}
		return err
	}))
	require.Greater(t, known, 30, "they are found")
}
