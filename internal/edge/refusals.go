package edge

import (
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/auth"
)

// refusals is told of every token that is refused.
type refusals struct {
	metrics *metrics
	audit   *audit.Log
	// wantKeys is called for a token that names a key that is not known.
	wantKeys func()
}

// token notes why one was refused; attributes say whose it was, and from where it
// came.
func (r *refusals) token(reason auth.Reason, attributes ...any) {
	r.metrics.authFailures.Of(reason).Inc()
	r.audit.Write(audit.TokenRefused, string(reason), attributes...)
	if reason == auth.ReasonUnknownKey {
		r.wantKeys()
	}
}

// bearerLocked is what the audit log says of whose connection it is: what its daemon
// claims to be, which is believed only once it is admitted. c.mu is held.
func (c *connection) bearerLocked() []any {
	orchestrator, daemon := c.talk.Claimed()
	return []any{"orchestrator", orchestrator, "daemon", daemon, "session", c.id, "address", c.addr}
}
