package ring

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Directory is one node's view of the cluster. Its methods may be called at
// any time from any goroutine, except Watch.
type Directory struct{}

// New binds the gossip address and takes part in the gossip at once, alone
// until Run joins others. node is the configured node name, build the
// program's version. If Run is never called, Close gives the address back.
func New(cfg Config, tier Tier, node, build string, logger *slog.Logger, reg prometheus.Registerer) (*Directory, error) {
	return &Directory{}, nil
}

// Watch registers a watcher; it must be called before Run.
func (d *Directory) Watch(w Watcher) {}

// Run joins the cluster, again every 30 s for ever, and keeps the directory
// converging until ctx ends. Then it stops gossiping; without a Leave before,
// the other members find out in 2 to 3 s, as if the process had been killed.
func (d *Directory) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Leave tells the others that this node goes, so that they forget its claims
// at once. Run goes on until its context ends.
func (d *Directory) Leave(ctx context.Context) error { return nil }

// Close stops gossiping without a word. It is safe to call twice and after Run.
func (d *Directory) Close() error { return nil }

// Self returns this node as the others see it.
func (d *Directory) Self() Member { return Member{} }

// Members returns the live members of a tier, this node included, ordered by
// name. The slice is not to be modified.
func (d *Directory) Members(tier Tier) []Member { return nil }

// SetDraining tells the others whether this node is about to leave. It returns
// when a first member has been told, or with an error when ctx ends before;
// the others are told nonetheless.
func (d *Directory) SetDraining(ctx context.Context, draining bool) error { return nil }

// Claim says that this edge holds a connection. It does nothing on a router.
func (d *Directory) Claim(c Claim) {}

// Release takes back the claim of a session; an unknown session is no error.
func (d *Directory) Release(session protocol.SessionID) {}

// AppendEdges appends to dst the member names of the edges that hold the
// orchestrator, each once, this node included. It does not allocate while dst
// has room.
func (d *Directory) AppendEdges(dst []string, token event.Token) []string { return dst }

// Holdings returns all claims of an orchestrator, in no particular order.
func (d *Directory) Holdings(token event.Token) []Holding { return nil }

// Settled reports whether this node has joined (or has nobody to join) and has
// once known all claims of all edges it knows. It stays true from then on, and
// becomes true 10 s after Run in any case: the directory is only a hint, and a
// member that cannot be reached must not keep others from starting.
func (d *Directory) Settled() bool { return true }
