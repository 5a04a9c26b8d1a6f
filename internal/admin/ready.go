package admin

import (
	"encoding/json"
	"net/http"
)

// Check is one thing that a program must have before it is sent work, such as
// its connection to NATS.
type Check struct {
	// Name is the check's key in the answer of /readyz.
	Name string
	// Ready reports whether all is well, and in a few words why or why not. It
	// must not block, must not reveal secrets, and may be called concurrently.
	Ready func() (ok bool, detail string)
	// Advisory checks are told of and decide nothing: the program does its work
	// without what they look at.
	Advisory bool
}

// readiness is the body of /readyz.
type readiness struct {
	Ready  bool                   `json:"ready"`
	Checks map[string]checkResult `json:"checks"`
}

type checkResult struct {
	Ready    bool   `json:"ready"`
	Detail   string `json:"detail,omitempty"`
	Advisory bool   `json:"advisory,omitempty"`
}

// readyHandler answers 200 if every check that is not advisory is ready, else
// 503, and always says what each one found.
func readyHandler(checks []Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := readiness{Ready: true, Checks: make(map[string]checkResult, len(checks))}
		for _, check := range checks {
			ok, detail := check.Ready()
			body.Checks[check.Name] = checkResult{Ready: ok, Detail: detail, Advisory: check.Advisory}
			body.Ready = body.Ready && (ok || check.Advisory)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !body.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		// The probe that hung up does not need the answer any more.
		_ = json.NewEncoder(w).Encode(body)
	})
}
