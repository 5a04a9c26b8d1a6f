package lab

import (
	"flag"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Selection is a flag that says which of some named things, as a comma-separated
// list of names and patterns; "list" asks for the names.
type Selection[T any] struct {
	all      []T
	describe func(T) (name, what string)
	patterns string
	chosen   []T
	asked    bool // for the list
}

// Select registers a selection; by default it is all of them.
func Select[T any](flags *flag.FlagSet, name, noun string, all []T, describe func(T) (name, what string)) *Selection[T] {
	s := &Selection[T]{all: all, describe: describe, patterns: "*", chosen: all}
	flags.Var(s, name, fmt.Sprintf("which %s, as a comma-separated `list` of names or patterns such as *-killed; \"list\" lists them", noun))
	return s
}

// Chosen returns what was selected, in the order of the patterns.
func (s *Selection[T]) Chosen() []T { return s.chosen }

// String is for package flag, which also asks the zero value.
func (s *Selection[T]) String() string { return s.patterns }

// Set is for package flag.
func (s *Selection[T]) Set(patterns string) error {
	if s.asked = patterns == "list"; s.asked {
		return nil
	}
	s.patterns, s.chosen = patterns, nil
	var names []string
	for _, pattern := range strings.Split(patterns, ",") {
		found := false
		for _, x := range s.all {
			name, _ := s.describe(x)
			match, err := path.Match(pattern, name)
			if err != nil {
				return err
			}
			found = found || match
			if match && !slices.Contains(names, name) {
				names, s.chosen = append(names, name), append(s.chosen, x)
			}
		}
		if !found {
			return fmt.Errorf("nothing matches %q, expected some of:\n%s", pattern, s.list())
		}
	}
	return nil
}

// list is a line for each name, with what it means where that is said.
func (s *Selection[T]) list() string {
	var b strings.Builder
	for _, x := range s.all {
		name, what := s.describe(x)
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-24s %s", name, what), " ") + "\n")
	}
	return b.String()
}

// listed returns the list if it was asked for.
func (s *Selection[T]) listed() (list string, asked bool) { return s.list(), s.asked }
