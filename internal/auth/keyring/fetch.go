package keyring

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

// maxSetBytes bounds what is read of a set.
const maxSetBytes = 1 << 20

// newClient returns a client that follows nobody elsewhere, and keeps no
// connection for the minutes until it is used again.
func newClient() *http.Client {
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// runFetch reads the set until ctx ends: soon again while it cannot be read.
func (r *Ring) runFetch(ctx context.Context) {
	retry := firstRetry
	for {
		keys, err := r.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		r.took(address, err, func() { r.remote, r.fetched = keys, true })
		wait := r.cfg.JWTJWKSRefresh
		if err == nil {
			retry = firstRetry
		} else {
			wait, retry = min(retry, wait), min(2*retry, longestRetry)
		}
		if !r.pause(ctx, wait*9/10+rand.N(wait/5)) {
			return
		}
	}
}

// pause waits for a time, or until a key is wanted. It reports whether ctx goes on.
func (r *Ring) pause(ctx context.Context, d time.Duration) bool {
	began := time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-r.wanted:
		return lifecycle.Sleep(ctx, min(d, r.leastInterval)-time.Since(began))
	}
}

// fetch reads the set. Its errors do not repeat the address, which may hold a
// password.
func (r *Ring) fetch(ctx context.Context) ([]auth.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, string(r.cfg.JWTJWKSURL), nil)
	if err != nil {
		return nil, errors.New("is no address")
	}
	response, err := r.client.Do(request)
	if err != nil {
		var quoting *url.Error
		if errors.As(err, &quoting) {
			err = quoting.Err
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSetBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxSetBytes {
		return nil, fmt.Errorf("answered more than %d bytes", maxSetBytes)
	}
	keys, others, err := auth.ParseJWKS(body)
	if err == nil && others > 0 {
		r.logger.Debug("keys passed over that do not verify RS256, ES256 or EdDSA", "keys", others)
	}
	return keys, err
}
