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
	raw, escaped := string(sent), strconv.Quote(string(sent))
	for at := 0; at+quote.MaxBytes < len(answer); at++ {
		piece := answer[at : at+quote.MaxBytes+1]
		if strings.Contains(raw, piece) || strings.Contains(escaped, piece) {
			t.Fatalf("an error repeats %q", piece)
		}
	}
}
