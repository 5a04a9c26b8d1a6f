package edge

import "github.com/neolith/daemon-gateway/internal/auth"

// refusals is told of every token that is refused.
type refusals struct {
	metrics *metrics
	// wantKeys is called for a token that names a key that is not known.
	wantKeys func()
}

// token notes why one was refused.
func (r *refusals) token(reason auth.Reason) {
	r.metrics.authFailures.Of(reason).Inc()
	if reason == auth.ReasonUnknownKey {
		r.wantKeys()
	}
}
