package operation

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/neolith/daemon-gateway/internal/admin"
)

// handleInsight has answered what the admin port shows as well: for operators who
// reach NATS and no admin port.
func (s *Service) handleInsight(n admin.Node) {
	s.Handle(Settings, func(context.Context, []byte) (any, error) { return SettingsReport{n.Settings}, nil })
	s.Handle(Log, func(context.Context, []byte) (any, error) { return LogReport{n.Log.Lines()}, nil })
	s.Handle(Refusals, func(context.Context, []byte) (any, error) { return n.Audit.Refusals(), nil })
	s.Handle(Metrics, func(context.Context, []byte) (any, error) {
		text, err := compressed(func(w io.Writer) error { return writeMetrics(w, n) })
		return MetricsReport{text}, err
	})
	s.Handle(Profile, func(_ context.Context, data []byte) (any, error) {
		r, err := decoded[ProfileRequest](data)
		if err != nil {
			return nil, err
		}
		profile, err := takeProfile(r.Profile)
		return ProfileReport{profile}, err
	})
	s.Handle(LogLevel, func(_ context.Context, data []byte) (any, error) {
		r, err := decoded[LogLevelRequest](data)
		if err == nil {
			err = r.Check()
		}
		if err != nil {
			return nil, err
		}
		return changeLevel(n, r)
	})
}

func decoded[T any](data []byte) (r T, err error) {
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read the request: %w", err)
	}
	return r, nil
}

// changeLevel carries a request out if it is for this node.
func changeLevel(n admin.Node, r LogLevelRequest) (LogLevelReport, error) {
	if !r.heededBy(n.Name) {
		return LogLevelReport{}, nil
	}
	of := []any{"orchestrator", r.Orchestrator, "daemon", r.Daemon}
	switch {
	case r.Show:
	case r.Reset:
		if n.Log.Reset(r.Target) {
			n.Audit.Acted("log_level_reset", append(of, r.Attributes()...)...)
		}
	default:
		change, err := r.Change(time.Now())
		if err != nil {
			return LogLevelReport{}, err
		}
		of = append(of, "level", change.Level.String(), "until", change.Until)
		n.Audit.Acted("log_level", append(of, r.Attributes()...)...)
		n.Log.Set(change)
	}
	return LogLevelReport{Heeded: true, Changes: n.Log.Changes()}, nil
}

func takeProfile(name string) ([]byte, error) {
	if !slices.Contains(Profiles, name) {
		return nil, fmt.Errorf("%.40q is no profile, expected one of %s", name, strings.Join(Profiles, ", "))
	}
	if name == "goroutine" {
		return compressed(func(w io.Writer) error { return pprof.Lookup(name).WriteTo(w, 1) })
	}
	var profile bytes.Buffer // which is compressed already
	err := pprof.Lookup(name).WriteTo(&profile, 0)
	return profile.Bytes(), err
}

func compressed(write func(io.Writer) error) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if err := errors.Join(write(w), w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeMetrics writes what /metrics answers.
func writeMetrics(w io.Writer, n admin.Node) error {
	request, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	if err != nil {
		return err
	}
	answer := &response{Writer: w, header: http.Header{}}
	promhttp.HandlerFor(n.Registry, promhttp.HandlerOpts{}).ServeHTTP(answer, request)
	if answer.status >= http.StatusBadRequest {
		return fmt.Errorf("metrics cannot be gathered: status %d", answer.status)
	}
	return nil
}

// response is an answer by HTTP to nobody.
type response struct {
	io.Writer
	header http.Header
	status int
}

func (r *response) Header() http.Header    { return r.header }
func (r *response) WriteHeader(status int) { r.status = status }
