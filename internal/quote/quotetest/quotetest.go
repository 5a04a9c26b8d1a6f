// Package quotetest is for tests of what reads texts of others: what is wrong
// with such a text must be said without repeating it.
package quotetest

import (
	"strconv"
	"strings"
	"testing"

	"github.com/neolith/daemon-gateway/internal/quote"
)

// maxAnswer is longer than any error that keeps to package quote.
const maxAnswer = 600

// RequireLittle fails the test if an error is long, or repeats more of what was
// sent than quote.MaxBytes in one piece, as it is or with escapes.
func RequireLittle(t testing.TB, sent []byte, err error) {
	t.Helper()
	if err == nil {
		return
	}
	answer := err.Error()
	if len(answer) > maxAnswer {
		t.Fatalf("an error of %d bytes: %.300s", len(answer), answer)
	}
	requireNone(t, answer, string(sent), quote.MaxBytes)
	requireNone(t, answer, strconv.Quote(string(sent)), escapedBytes*quote.MaxBytes)
}

// escapedBytes is the most that a byte becomes with escapes, as \xff.
const escapedBytes = 4

// requireNone fails the test if answer has a piece of a text that is longer than
// most.
func requireNone(t testing.TB, answer, text string, most int) {
	t.Helper()
	for at := 0; at+most < len(answer); at++ {
		if piece := answer[at : at+most+1]; strings.Contains(text, piece) {
			t.Fatalf("an error repeats %q", piece)
		}
	}
}
