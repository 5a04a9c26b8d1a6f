// Package ring is the directory of the cluster: which edges and routers are
// alive, and which edge holds which orchestrator's connections. Edges and
// routers carry one Directory each; they agree by gossip
// (hashicorp/memberlist), without any store.
//
// Every edge is the only writer of its own claims. It numbers its changes and
// sends them in batches to every member; digests travel with the gossip, and
// whoever finds itself behind fetches the edge's snapshot from the edge itself:
//
//	Claim, Release ─▶ own table ─▶ batch (50 ms) ─▶ one queue and sender per member
//	                                                      │ stream
//	watchers ◀─ changes ◀─ table ◀─ follower ◀─ inbox ◀───┘◀─ digests (push/pull, ping)
//	                                    └─▶ snapshot request ─▶ the edge
//
// The directory is a hint and never the truth: the event log is. It may be
// stale for moments; it converges after loss, partition and restart.
package ring

import (
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Tier is the kind of a member.
type Tier string

// The tiers that take part in the gossip.
const (
	TierEdge   Tier = "edge"
	TierRouter Tier = "router"
)

// Member is a live edge or router, this node included.
type Member struct {
	// Name is Node and the time the process started; it is used once, so it
	// names one incarnation of the node.
	Name string
	// Node is the configured node name, the same after a restart.
	Node string
	Tier Tier
	// Address is the gossip address (ip:port) that others reach it by.
	Address string
	// Build is the version of the program.
	Build string
	// Draining says that the member is about to leave and takes nothing new.
	Draining bool
}

// Claim says that an edge holds a connection of an orchestrator. Session
// identifies it; claiming a session again replaces what was said of it.
type Claim struct {
	Orchestrator event.Token
	Session      protocol.SessionID
	Daemon       protocol.DaemonID
	// Generation orders the connections of one orchestrator, newest highest.
	Generation uint64
}

// Holding is a claim and the member name of the edge that made it.
type Holding struct {
	Edge string
	Claim
}

// Watcher is told of every change of the directory. All calls come from one
// goroutine, one after the other, and may block without harm to the gossip:
// what changes meanwhile is told later, and a claim that came and went
// meanwhile is not told at all. The claims told of and not taken back are
// always a state that Holdings had. A member that is gone takes all its claims
// in one call. The slices belong to the caller and are not to be kept.
type Watcher interface {
	ClaimsAdded(claims []Holding)
	ClaimsRemoved(claims []Holding)
	MembersChanged()
}
