package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Tell tells the trial on CONTROL_ADDR of a step or of the end, and returns what
// it answers.
func Tell(ctx context.Context, cfg Config) (string, error) {
	path := "/finish"
	if !cfg.Finish {
		path = "/step?name=" + url.QueryEscape(cfg.Step)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+cfg.ControlAddr+path, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("tell the trial: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", fmt.Errorf("read the trial's answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the trial answers: %s", strings.TrimSpace(string(text)))
	}
	return string(text), nil
}

// handler is the other side of Tell.
func (t *trial) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /step", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), daemonsWait)
		defer cancel()
		if err := t.crowd.Enter(ctx, t.crowd.Seats()...); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		t.account.begin(r.FormValue("name"))
		steps := t.account.count(t.feed.Since(time.Time{}), t.ledger.Deliveries(), nil)
		_, _ = io.WriteString(w, steps[len(steps)-3].String()) // the one that has ended, before the new one and the sum
	})
	mux.HandleFunc("POST /finish", func(http.ResponseWriter, *http.Request) { t.finish() })
	return mux
}
