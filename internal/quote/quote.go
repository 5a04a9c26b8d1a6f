// Package quote cuts what others have written before it is repeated to them, or
// to anybody: an answer must not be as large as what it answers.
package quote

import "unicode/utf8"

// MaxBytes is how much of a text is repeated.
const MaxBytes = 64

// Cut returns text, or as much of it as may be repeated and an ellipsis. A
// character is not cut.
func Cut(text string) string { return CutAt(text, MaxBytes) }

// CutAt is Cut with another bound, of a few bytes at least.
func CutAt(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
