package suite

import "time"

// event is a line of go test -json (see go doc test2json), or of the build
// before it (go help buildjson).
type event struct {
	Action     string
	ImportPath string // of a build
	Package    string
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

func (e event) elapsed() time.Duration { return time.Duration(e.Elapsed * float64(time.Second)) }

// verdict is how a test or a package ended; the zero value is one that has not.
type verdict string

const (
	passed  verdict = "pass"
	failed  verdict = "fail"
	skipped verdict = "skip"
)

// ends returns the verdict that an event is.
func (e event) ends() (verdict, bool) {
	v := verdict(e.Action)
	return v, v == passed || v == failed || v == skipped
}
