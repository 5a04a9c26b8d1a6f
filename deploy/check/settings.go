package check

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Setting is a setting of a program, as docs/configuration.md describes it.
type Setting struct {
	Name, Type, Default, Meaning string
	Group                        string
}

// Programs returns the settings of each program by its name. The page is
// generated from the programs, and make lint sees that it is up to date.
func Programs() (map[string][]Setting, error) {
	text, err := os.ReadFile(filepath.Join(Root(), "docs", "configuration.md"))
	if err != nil {
		return nil, err
	}
	programs := map[string][]Setting{}
	var program, group string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## `"); ok {
			program = strings.TrimSuffix(name, "`")
		} else if name, ok := strings.CutPrefix(line, "### "); ok {
			group = name
		} else if strings.HasPrefix(line, "| `") {
			setting, err := parseRow(line, group)
			if err != nil {
				return nil, err
			}
			programs[program] = append(programs[program], setting)
		}
	}
	return programs, nil
}

// parseRow reads a row of the table: name, type, default, meaning.
func parseRow(line, group string) (Setting, error) {
	const bar = "\x00" // an escaped |
	cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, bar), "|"), "|")
	if len(cells) != 4 {
		return Setting{}, fmt.Errorf("docs/configuration.md: expected four columns: %s", line)
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], bar, "|"))
	}
	return Setting{
		Name: strings.Trim(cells[0], "`"), Type: cells[1], Default: strings.Trim(cells[2], "`"), Meaning: cells[3], Group: group,
	}, nil
}

var boundsText = regexp.MustCompile(`A value (?:from (-?\w+) to (\w+)|of at least (-?\w+))\.$`)

// Bounds are the smallest and the largest value as the description has them;
// empty where there is none.
func (s Setting) Bounds() (least, most string) {
	match := boundsText.FindStringSubmatch(s.Meaning)
	if match == nil {
		return "", ""
	}
	return match[1] + match[3], match[2]
}
