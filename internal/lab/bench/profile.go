package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/neolith/daemon-gateway/internal/lab"
)

// profile has a profile of a gateway's first edge written into the directory for
// them, if there is one, beside what is measured. done waits for it.
func (b *bench) profile(ctx context.Context, s *system, name, page string) (done func() error) {
	if b.options.profiles == "" || !s.gateway {
		return func() error { return nil }
	}
	ended := make(chan error, 1)
	go func() {
		ended <- fetch(ctx, "http://"+s.tiers[0].nodes[0].AdminAddr+"/debug/pprof/"+page, filepath.Join(b.options.profiles, s.name+"."+name))
	}()
	return func() error { return <-ended }
}

// fetch writes what is served at a URL into a file.
func fetch(ctx context.Context, url, file string) error {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644))
}
