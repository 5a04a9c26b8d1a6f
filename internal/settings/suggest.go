package settings

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// nearest returns the setting whose name may have been meant, or nil.
func nearest(list []*setting, name string) *setting {
	var known []string
	for _, s := range list {
		if !s.hidden {
			known = append(known, s.flag)
		}
	}
	meant := Nearest(flagName(name), known)
	if meant == "" {
		return nil
	}
	return find(list, meant)
}

// Nearest returns the one of known names that may have been meant, or "".
func Nearest(name string, known []string) string {
	best, closest := "", maxTypos(name)+1
	for _, k := range known {
		if d := typos(name, k); d < closest {
			best, closest = k, d
		}
	}
	return best
}

// maxTypos is how many mistakes make a name look like another one: in a short name
// each says more.
func maxTypos(name string) int {
	switch {
	case len(name) < 5:
		return 0
	case len(name) < 8:
		return 1
	}
	return 2
}

// typos is how many letters must be added, left out, replaced or swapped with their
// neighbour to make b out of a (the optimal string alignment distance).
func typos(a, b string) int {
	above, before := make([]int, len(b)+1), make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range before {
		before[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(before[j]+1, row[j-1]+1, before[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], above[j-2]+1)
			}
		}
		above, before, row = before, row, above
	}
	return before[len(b)]
}

// libraryPrefix begins names that OpenTelemetry gives to all programs: those that are
// not settings here are read by its libraries, or are of other signals.
const libraryPrefix = "OTEL_"

// strays returns a line for each environment variable that is no setting and looks
// like one that was not given. It may be another program's, so it is no mistake.
func (r *reader) strays(program string, names []string) (lines []string) {
	for _, name := range slices.Sorted(slices.Values(names)) {
		if slices.ContainsFunc(r.list, func(s *setting) bool { return s.env == name }) || strings.HasPrefix(name, libraryPrefix) {
			continue
		}
		s := nearest(r.list, name)
		if s == nil {
			continue
		}
		if _, given := r.given[s]; !given {
			lines = append(lines, fmt.Sprintf("%s: the environment variable %s is not read: did you mean %s?", program, name, s.env))
		}
	}
	return lines
}

// oddities returns a line for each secret that has around it what is hardly part of
// it: quotation marks, which Docker's env files keep, or white space, such as the
// line break that echo writes into a secret of Kubernetes. Whoever signs with the same
// secret may read it in the same way, so it is no mistake.
func (r *reader) oddities(program string) (lines []string) {
	for _, s := range r.list {
		value, given := r.given[s]
		if !given || s.fileOf != nil || s.element() != reflect.TypeFor[Secret]() {
			continue
		}
		switch {
		case quoted(value):
			lines = append(lines, fmt.Sprintf("%s: the quotation marks around %s count as part of it", program, s.title()))
		case !s.isList() && strings.TrimSpace(value) != value:
			lines = append(lines, fmt.Sprintf("%s: the white space around %s, such as a line break at its end, counts as part of it", program, s.title()))
		}
	}
	return lines
}

// quoted reports whether text stands in quotation marks.
func quoted(text string) bool {
	text = strings.TrimSpace(text)
	return len(text) > 1 && text[0] == text[len(text)-1] && (text[0] == '"' || text[0] == '\'')
}

// names returns those of environment variables, given as in os.Environ.
func names(environment []string) (list []string) {
	for _, pair := range environment {
		name, _, _ := strings.Cut(pair, "=")
		list = append(list, name)
	}
	return list
}
