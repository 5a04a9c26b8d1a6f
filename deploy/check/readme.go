package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The table of values stands between these lines of the chart's README.
const (
	tableBegin = "<!-- values: written by \"make manifests\" from values.yaml -->\n"
	tableEnd   = "<!-- end of values -->\n"
)

// Readme returns the chart's README.md as it is to be: as it is, with a table of
// all values, their defaults, and the comments that values.yaml has on them. A
// value without a comment is an error.
func Readme() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(ChartDir(), "README.md"))
	if err != nil {
		return nil, err
	}
	before, rest, hasBegin := strings.Cut(string(text), tableBegin)
	_, after, hasEnd := strings.Cut(rest, tableEnd)
	if !hasBegin || !hasEnd {
		return nil, fmt.Errorf("the chart's README.md lacks the lines around the table of values")
	}
	table, err := valuesTable()
	if err != nil {
		return nil, err
	}
	return []byte(before + tableBegin + table + tableEnd + after), nil
}

func valuesTable() (string, error) {
	text, err := os.ReadFile(filepath.Join(ChartDir(), "values.yaml"))
	if err != nil {
		return "", err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return "", fmt.Errorf("values.yaml: %w", err)
	}
	var b strings.Builder
	b.WriteString("\n| value | default | meaning |\n|---|---|---|\n")
	if err := writeRows(&b, "", document.Content[0]); err != nil {
		return "", err
	}
	b.WriteString("\n")
	return b.String(), nil
}

// writeRows writes a row for each value below a mapping. A mapping without a
// comment is a heading of what is in it; one with a comment is a value.
func writeRows(b *strings.Builder, prefix string, mapping *yaml.Node) error {
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		path, comment := prefix+key.Value, meaning(key)
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && comment == "" {
			if err := writeRows(b, path+".", value); err != nil {
				return err
			}
			continue
		}
		if comment == "" {
			return fmt.Errorf("values.yaml: %s has no comment", path)
		}
		fallback, err := inline(value)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", path, fallback, strings.ReplaceAll(comment, "|", `\|`))
	}
	return nil
}

// meaning is the comment on a value. A comment that an empty line follows is
// not part of it.
func meaning(key *yaml.Node) string {
	paragraphs := strings.Split(key.HeadComment, "\n\n")
	var words []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		words = append(words, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

// inline is a value on one line.
func inline(value *yaml.Node) (string, error) {
	flat := *value
	setFlow(&flat)
	text, err := yaml.Marshal(&flat)
	return strings.TrimSpace(string(text)), err
}

func setFlow(node *yaml.Node) {
	node.Style |= yaml.FlowStyle
	node.HeadComment, node.LineComment, node.FootComment = "", "", ""
	for _, child := range node.Content {
		setFlow(child)
	}
}
