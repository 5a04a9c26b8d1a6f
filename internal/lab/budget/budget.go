// Package budget says how long tests explore at random: a fixed number of runs,
// so that a slow machine explores as much as a fast one. make test makes few,
// which find what is grossly wrong; make test-long makes many.
//
// It is for tests only; nothing in the programs imports it.
package budget

import "os"

// Long is the environment variable that asks for many runs, if it is not empty.
const Long = "TEST_LONG"

// Runs returns how many runs an exploration makes.
func Runs[N ~int | ~uint64](few, many N) N {
	if os.Getenv(Long) != "" {
		return many
	}
	return few
}
