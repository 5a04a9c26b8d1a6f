package gatewayctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// The forms of output.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// show prints a result: as JSON, or as people read it.
func (p *program) show(result any, table func(w io.Writer)) error {
	return p.render(p.out, result, table)
}

func (p *program) render(out io.Writer, result any, table func(w io.Writer)) error {
	if p.format == formatJSON {
		text, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		_, err = fmt.Fprintln(out, string(text))
		return err
	}
	w := tabwriter.NewWriter(printed{out}, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// row prints a line of a table.
func row[T any](w io.Writer, cells ...T) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = oneLine(fmt.Sprint(cell))
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

// oneLine is what others have written, within a line and a cell of a table.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return unicode.ReplacementChar
		}
		return visible(r)
	}, text)
}

// printed shows the control characters of what others have written, such as ids of
// daemons and events, instead of giving them to the terminal, which they could steer.
type printed struct{ io.Writer }

// Write implements io.Writer.
func (t printed) Write(text []byte) (int, error) {
	if _, err := t.Writer.Write(bytes.Map(visible, text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// visible is what stands for a character: for one that is not to be printed the sign
// of something unknown.
func visible(r rune) rune {
	if r == '\n' || r == '\t' || strconv.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

// silent tells of those that did not answer.
func silent(w io.Writer, members []operation.Member) {
	for _, m := range members {
		fmt.Fprintf(w, "%s %s did not answer\n", m.Tier, m.Node)
	}
}

// age is how long ago something was, in its two largest units.
func age(now, then time.Time) string {
	d := max(0, now.Sub(then))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// counts prints amounts by their names: "3 connections, 2 orchestrators".
func counts(amounts map[string]int) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		texts = append(texts, fmt.Sprintf("%d %s", amounts[name], name))
	}
	return strings.Join(texts, ", ")
}

func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
