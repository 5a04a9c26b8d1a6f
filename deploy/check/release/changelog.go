package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// change is an entry of the changelog, as Artifact Hub wants it.
type change struct {
	Kind        string `json:"kind"`
	Description string `json:"description"`
}

// kinds are the headings of the changelog, and what Artifact Hub calls them.
var kinds = map[string]string{
	"Added": "added", "Changed": "changed", "Deprecated": "deprecated", "Removed": "removed", "Fixed": "fixed", "Security": "security",
}

// changes returns what the changelog says of a version. A release without a word
// on what it brings is none; one before the final version has its section.
func (s source) changes(version string) ([]change, error) {
	text, err := os.ReadFile(filepath.Join(s.root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	final, _, _ := strings.Cut(version, "-")
	heading := regexp.MustCompile(`(?m)^## ` + regexp.QuoteMeta(final) + ` - \d{4}-\d{2}-\d{2}$`).FindIndex(text)
	if heading == nil {
		return nil, fmt.Errorf("CHANGELOG.md: expected a section \"## %s - <year>-<month>-<day>\"", final)
	}
	section, _, _ := strings.Cut(string(text[heading[1]:]), "\n## ")
	var list []change
	kind := ""
	for line := range strings.Lines(section) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "### "):
			if kind = kinds[strings.TrimPrefix(line, "### ")]; kind == "" {
				return nil, fmt.Errorf("CHANGELOG.md: %q is none of the headings of Keep a Changelog", line)
			}
		case strings.HasPrefix(line, "- ") && kind != "":
			list = append(list, change{kind, strings.TrimPrefix(line, "- ")})
		case strings.HasPrefix(line, "  ") && len(list) > 0:
			list[len(list)-1].Description += " " + strings.TrimSpace(line)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("CHANGELOG.md: the section of %s says nothing", final)
	}
	return slices.Clip(list), nil
}
