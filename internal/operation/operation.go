// Package operation is how operators ask a running gateway and act on it, over
// NATS alone:
//
//	gatewayctl ── request, by tier and verb ──▶ every node of the tier (Service)
//	    ▲                                              │
//	    └── gathered until all known ones have ────────┘ answers, each for itself
//	        answered, or a deadline (Client)
//
// Nobody answers for somebody else, so nothing has to be up but NATS and who is
// asked. Each answer also says whom that node knows by gossip: who is known and did
// not answer is named.
//
// A node is a micro-service (nats.go/micro), so `nats micro` shows it as well.
package operation

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/ring"
)

// Tier is the kind of a node.
type Tier string

// The tiers.
const (
	Edge   Tier = "edge"
	Router Tier = "router"
	Bridge Tier = "bridge"
)

// Tiers are all of them.
var Tiers = []Tier{Edge, Router, Bridge}

// Verb is what is asked of a node.
type Verb string

// The verbs.
const (
	// Nodes asks what a node is and how it is: NodeReport.
	Nodes Verb = "nodes"
	// Settings asks for what is in force, without secrets: SettingsReport.
	Settings Verb = "settings"
	// Metrics asks for all metrics: MetricsReport.
	Metrics Verb = "metrics"
	// Log asks for the last lines of the log: LogReport.
	Log Verb = "log"
	// Profile asks for a profile of the process: ProfileRequest, ProfileReport.
	Profile Verb = "profile"
	// LogLevel asks which changes are in force, or makes one: LogLevelRequest,
	// LogLevelReport.
	LogLevel Verb = "log-level"
	// Refusals asks who was refused or limited lately: audit.Refusals.
	Refusals Verb = "refusals"
	// Partitions asks a router what it serves: PartitionsReport.
	Partitions Verb = "partitions"
	// Connections asks an edge which it holds: ConnectionsRequest, ConnectionsReport.
	Connections Verb = "connections"
	// Disconnect ends connections of an edge: DisconnectRequest, DisconnectReport.
	Disconnect Verb = "disconnect"
	// Drain and Undrain are for one edge: DrainRequest, DrainReport.
	Drain   Verb = "drain"
	Undrain Verb = "undrain"
	// Balance has edges send away now what they hold over the mean, or say what that
	// would be: BalanceRequest, BalanceReport.
	Balance Verb = "balance"
	// Event asks an edge what its connections have of one: EventRequest, EventReport.
	Event Verb = "event"
	// Sessions asks one edge, whichever, for the last sessions of an orchestrator:
	// SessionsRequest, SessionsReport.
	Sessions Verb = "sessions"
	// Trace has a node tell live what happens to an orchestrator: TraceRequest, and
	// from then on TraceNews.
	Trace Verb = "trace"
	// Note is answered by one edge, whichever: NoteRequest.
	Note Verb = "note"
)

const (
	// subjects is what all subjects of requests begin with: tier and verb follow.
	subjects = "daemon.operation."
	// service is what the names of the micro-services begin with: the tier follows.
	service = "gateway-"
	// InboxPrefix is the operator's, and answers come below it: nodes are permitted to
	// answer there, and nowhere else of it.
	InboxPrefix = "_INBOX_operator"
	answers     = InboxPrefix + ".answers."
)

// Subject is where nodes of a tier are asked.
func Subject(tier Tier, verb Verb) string { return subjects + string(tier) + "." + string(verb) }

// Member is a node as others know it.
type Member struct {
	Tier Tier   `json:"tier"`
	Node string `json:"node"`
}

func compareMembers(a, b Member) int {
	return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Node, b.Node))
}

// Known returns the members that a directory shows.
func Known(d *ring.Directory) []Member {
	var known []Member
	for _, tier := range []ring.Tier{ring.TierEdge, ring.TierRouter} {
		for _, m := range d.Members(tier) {
			known = append(known, Member{Tier(tier), m.Node})
		}
	}
	return known
}

// Answer is what a node answers.
type Answer struct {
	Member
	// Known are the members that this node knows by gossip.
	Known []Member `json:"known,omitempty"`
	// Error says why there is no body.
	Error string          `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	// At is when it came.
	At time.Time `json:"-"`
}

// Answers are what was gathered.
type Answers struct {
	// Asked is when they were asked for.
	Asked time.Time
	// Given are ordered by tier and node.
	Given []Answer
	// Silent are those that others know and that have not answered.
	Silent []Member
}

// add takes an answer in, and keeps account of who is silent.
func (a *Answers) add(asked []Tier, more Answer, known map[Member]bool) {
	a.Given = append(a.Given, more)
	known[more.Member] = true
	for _, m := range more.Known {
		if _, ok := known[m]; !ok && slices.Contains(asked, m.Tier) {
			known[m] = false
		}
	}
	a.Silent = nil
	for m, answered := range known {
		if !answered {
			a.Silent = append(a.Silent, m)
		}
	}
	slices.SortFunc(a.Given, func(x, y Answer) int { return compareMembers(x.Member, y.Member) })
	slices.SortFunc(a.Silent, compareMembers)
}
