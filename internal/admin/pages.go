package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/logbook"
)

var indexPage = template.Must(template.New("index").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{{.Tier}} {{.Name}}</title>
<h1>{{.Tier}} {{.Name}}</h1>
<p>{{.Version}}</p>
<ul>
{{range .Links}}<li><a href="{{.Path}}">{{.Path}}</a> {{.About}}
{{end}}</ul>
<h2>{{if .Ready}}Ready{{else}}Not ready{{end}}</h2>
<table>
{{range .Checks}}<tr><td>{{.Name}}<td>{{if .OK}}ok{{else}}not ready{{end}}<td>{{.Detail}}
{{end}}</table>
`))

type link struct{ Path, About string }

type checked struct {
	Name, Detail string
	OK           bool
}

// index is what somebody sees who comes with a browser.
func (n Node) index(w http.ResponseWriter, _ *http.Request) {
	view := struct {
		Tier, Name, Version string
		Links               []link
		Ready               bool
		Checks              []checked
	}{Tier: n.Tier, Name: n.Name, Version: buildinfo.Get().String(), Ready: true, Links: []link{
		{"/livez", "whether the process lives"},
		{"/readyz", "whether it is ready, and what it waits for"},
		{"/metrics", "for Prometheus"},
		{"/settings", "in force, with secrets masked"},
		{"/log", "the last lines of the log"},
		{"/log-level", "what is in force for a while; PUT /log-level?level=debug&for=10m changes it, also with &orchestrator= or &daemon="},
		{profilesPath, "profiles, for this machine, or while others are let in (PUT /profiles?for=10m)"},
	}}
	for _, p := range n.Pages {
		view.Links = append(view.Links, link{p.Path, p.About})
	}
	for _, check := range n.Checks {
		ok, detail := check.Ready()
		view.Ready = view.Ready && (ok || check.Advisory)
		view.Checks = append(view.Checks, checked{check.Name, detail, ok})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Header().Set("Cache-Control", "no-store")
	_ = indexPage.Execute(w, view) // who hung up needs no answer
}

func (p Page) serve(w http.ResponseWriter, r *http.Request) {
	shown, err := p.Show(r.URL.Query())
	if err != nil {
		writeProblem(w, http.StatusBadRequest, err)
		return
	}
	writeJSON(w, http.StatusOK, shown)
}

func (n Node) logLevel(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"changes": n.Log.Changes()})
}

// changeParameters are those of PUT /log-level.
var changeParameters = []string{"level", "for", "orchestrator", "daemon", "by", "because"}

// setLogLevel changes for a while which lines are logged.
func (n Node) setLogLevel(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	change, err := parseChange(query)
	if err != nil {
		writeProblem(w, http.StatusBadRequest, fmt.Errorf("%w (PUT /log-level?level=debug&for=10m)", err))
		return
	}
	n.acted("log_level", r, query, "level", change.Level.String(), "until", change.Until,
		"orchestrator", change.Orchestrator, "daemon", change.Daemon)
	n.Log.Set(change)
	writeJSON(w, http.StatusOK, change)
}

func parseChange(query url.Values) (logbook.Change, error) {
	if err := onlyKnown(query, changeParameters...); err != nil {
		return logbook.Change{}, err
	}
	return logbook.Request{
		Target: logbook.Target{Orchestrator: query.Get("orchestrator"), Daemon: query.Get("daemon")},
		Level:  query.Get("level"), For: query.Get("for"),
	}.Change(time.Now())
}

// onlyKnown refuses what is misspelt: a request for one orchestrator must not be
// taken for one for all.
func onlyKnown(query url.Values, known ...string) error {
	var problems []error
	for name, values := range query {
		switch {
		case !slices.Contains(known, name):
			problems = append(problems, fmt.Errorf("%.40q is no parameter, expected %s", name, strings.Join(known, ", ")))
		case len(values) > 1:
			problems = append(problems, fmt.Errorf("%s is given twice", name))
		}
	}
	return errors.Join(problems...)
}

// maxSaid bounds what of who and why goes into the log.
const maxSaid = 256

// acted writes down what somebody did through this port, which asks nobody who they
// are: beside what they say stands where they came from.
func (n Node) acted(what string, r *http.Request, query url.Values, attributes ...any) {
	said := func(name string) string {
		text := query.Get(name)
		return strings.ToValidUTF8(text[:min(len(text), maxSaid)], "")
	}
	n.Audit.Write(audit.OperatorActed, what, append(attributes, "address", r.RemoteAddr, "by", said("by"), "because", said("because"))...)
}

func joined(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text))
}

func writeProblem(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(body)
}
