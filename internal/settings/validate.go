package settings

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Error lists every mistake in the settings of one start.
type Error struct {
	Program  string
	Problems []Problem
}

// Problem is one mistake: where it is, and what was given and expected. It
// never holds the value of a secret.
type Problem struct {
	Setting string // "--ws-path (WS_PATH)"
	Text    string
}

// Error returns all mistakes, one a line.
func (e *Error) Error() string {
	var b strings.Builder
	what := "mistakes"
	if len(e.Problems) == 1 {
		what = "mistake"
	}
	if e.Program != "" {
		b.WriteString(e.Program + ": ")
	}
	fmt.Fprintf(&b, "%d %s in the settings:", len(e.Problems), what)
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s: %s", p.Setting, p.Text)
	}
	return b.String()
}

func (r *reader) add(setting, text string) {
	// An embedded struct's Validate is promoted to the struct around it, so the
	// same report may come twice.
	p := Problem{Setting: setting, Text: text}
	if !slices.Contains(r.failure.Problems, p) {
		r.failure.Problems = append(r.failure.Problems, p)
	}
}

func (r *reader) mistake(s *setting, text string) {
	r.mistaken[s] = true
	r.add(s.title(), text)
}

// got says what was given for s, or else what it is.
func (r *reader) got(s *setting) string {
	value, given := r.given[s]
	switch {
	case s.isSecret() && quoted(value):
		return "got a value in quotation marks, which are part of it (not shown)"
	case s.isURL() && s.text() != "":
		return fmt.Sprintf("got %q", s.text())
	case s.isSecret() && (given || s.text() != ""):
		return "got a secret (not shown)"
	case given:
		return fmt.Sprintf("got %q", redact(value))
	case s.text() == "":
		return "not given"
	default:
		return fmt.Sprintf("is %q", s.text())
	}
}

// validate runs the Validate methods of v and of every struct within it.
func (r *reader) validate(v reflect.Value) {
	v = reflect.Indirect(v)
	if v.Kind() != reflect.Struct {
		return
	}
	if v.CanAddr() && v.Addr().CanInterface() {
		if part, ok := v.Addr().Interface().(Validator); ok {
			part.Validate(r.report)
		}
	}
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() {
			r.validate(v.Field(i))
		}
	}
}

// report takes what a Validate method found. A setting that could not even be
// read is at its zero value, so nothing further is said about it.
func (r *reader) report(name, problem string) {
	s := find(r.list, name)
	switch {
	case s == nil:
		r.add(name, problem)
	case !r.mistaken[s]:
		if s.isURL() && slices.Contains(strings.Split(s.text(), ","), mask) {
			problem += escaping
		}
		r.add(s.title(), r.got(s)+", "+problem)
	}
}

// escaping is what is most often wrong with a URL that cannot be parsed.
const escaping = "; in user and password %23 stands for #, %2F for /, %3F for ?, %25 for %"

// compare orders two values of one numeric type.
func compare(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.CanFloat():
		return cmp.Compare(a.Float(), b.Float())
	}
	return 0
}
