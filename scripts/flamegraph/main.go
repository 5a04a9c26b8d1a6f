// Flamegraph draws a profile as a flame graph, which is what make flamegraph does.
// It reads what go tool pprof -traces writes:
//
//	go tool pprof -traces edge.cpu | go run ./scripts/flamegraph -title "an edge" > edge.svg
//
// Each box is a function and as wide as its share of the profile, with those that
// it calls above it. The project's own are red, the runtime's grey.
package main

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	title := flag.String("title", "", "what the profile is of")
	least := flag.Float64("least", 0.004, "the smallest share of the profile that is drawn")
	flag.Parse()
	root, err := read(os.Stdin)
	if err == nil {
		out := bufio.NewWriter(os.Stdout)
		draw(out, root, *title, *least)
		err = out.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flamegraph:", err)
		os.Exit(1)
	}
}

// box is a function as called by those below it.
type box struct {
	name   string
	value  float64
	called map[string]*box
}

func (b *box) add(stack []string, value float64) {
	b.value += value
	for _, name := range slices.Backward(stack) { // it begins with the innermost
		next := b.called[name]
		if next == nil {
			next = &box{name: name, called: map[string]*box{}}
			b.called[name] = next
		}
		b = next
		b.value += value
	}
}

func (b *box) depth(least float64) int {
	deepest := 0
	for _, next := range b.called {
		if next.value >= least {
			deepest = max(deepest, next.depth(least))
		}
	}
	return deepest + 1
}

// first is the first line of a sample: its value and the innermost function.
var first = regexp.MustCompile(`^\s*([0-9.]+)([a-zA-Z]*)\s+(\S.*)$`)

// units are those of times and sizes, so that one sample can be added to another.
var units = map[string]float64{
	"": 1, "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "mins": 60, "hrs": 3600,
	"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30,
}

func read(in io.Reader) (*box, error) {
	root := &box{name: "all", called: map[string]*box{}}
	var stack []string
	var value float64
	end := func() {
		if len(stack) > 0 {
			root.add(stack, value)
		}
		stack, value = nil, 0
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	samples := false
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "---") {
			end()
			samples = true
			continue
		}
		if !samples || strings.TrimSpace(line) == "" {
			continue
		}
		if found := first.FindStringSubmatch(line); found != nil && len(stack) == 0 {
			number, err := strconv.ParseFloat(found[1], 64)
			unit, known := units[found[2]]
			if err != nil || !known {
				return nil, fmt.Errorf("no value in %q", line)
			}
			value, stack = number*unit, []string{short(found[3])}
		} else if len(stack) > 0 { // else a label
			stack = append(stack, short(line))
		}
	}
	end()
	if root.value == 0 {
		return nil, errors.Join(lines.Err(), errors.New("no samples"))
	}
	return root, lines.Err()
}

// short is a function's name without what its package's path begins with.
func short(name string) string {
	name = strings.TrimSuffix(strings.TrimSpace(name), " (inline)")
	name = strings.TrimPrefix(name, ours)
	for _, path := range []string{"github.com/", "golang.org/x/", "internal/runtime/"} {
		name = strings.TrimPrefix(name, path)
	}
	return name
}

const ours = "github.com/neolith/daemon-gateway/"

func isOurs(name string) bool {
	return strings.HasPrefix(name, "internal/") && !strings.HasPrefix(name, "internal/poll") || strings.HasPrefix(name, "pkg/")
}

const width, height, margin, letter = 1200.0, 17, 8.0, 6.2

func draw(out io.Writer, root *box, title string, least float64) {
	least *= root.value
	total := (root.depth(least)+2)*height + 2*margin
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="monospace" font-size="11">`+"\n", width, float64(total))
	fmt.Fprintf(out, `<rect width="100%%" height="100%%" fill="#fff"/><text x="%g" y="18" font-size="13">%s</text>`+"\n", margin, html.EscapeString(title))
	drawBox(out, root, margin, float64(total)-margin-height, (width-2*margin)/root.value, least, root.value)
	fmt.Fprintln(out, "</svg>")
}

func drawBox(out io.Writer, b *box, x, y, scale, least, all float64) {
	wide := b.value * scale
	fmt.Fprintf(out, `<g><title>%s: %.1f %%</title><rect x="%.1f" y="%.0f" width="%.1f" height="%d" fill="%s" stroke="#fff" stroke-width="0.5"/>`,
		html.EscapeString(b.name), 100*b.value/all, x, y, wide, height-1, colour(b.name))
	if fits := int((wide - 4) / letter); fits >= 4 {
		text := b.name
		if len(text) > fits {
			text = text[:fits-1] + "…"
		}
		fmt.Fprintf(out, `<text x="%.1f" y="%.0f">%s</text>`, x+2, y+12, html.EscapeString(text))
	}
	fmt.Fprintln(out, "</g>")
	next := slices.SortedFunc(maps.Values(b.called), func(a, b *box) int {
		return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.name, b.name))
	})
	for _, above := range next {
		if above.value >= least {
			drawBox(out, above, x, y-height, scale, least, all)
		}
		x += above.value * scale
	}
}

func colour(name string) string {
	switch {
	case isOurs(name):
		return "#f2a08c"
	case strings.HasPrefix(name, "runtime"), strings.HasPrefix(name, "gc"), name == "all":
		return "#d5d5d5"
	case strings.HasPrefix(name, "net"), strings.HasPrefix(name, "internal/"), strings.HasPrefix(name, "syscall"):
		return "#a8c8ec"
	}
	return "#f0d795"
}
