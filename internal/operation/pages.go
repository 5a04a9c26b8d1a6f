package operation

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// membersView is the cluster as a node sees it.
type membersView struct {
	Self string `json:"self"`
	// Settled: the node has heard of all that it joined. Current: it knows of nothing
	// that it lacks.
	Settled bool         `json:"settled"`
	Current bool         `json:"current"`
	Outage  string       `json:"outage,omitempty"`
	Members []memberView `json:"members"`
	// Claims are those of the orchestrator that was asked for.
	Claims []claimView `json:"claims,omitempty"`
}

type memberView struct {
	Tier     ring.Tier `json:"tier"`
	Node     string    `json:"node"`
	Name     string    `json:"name"`
	Address  string    `json:"address"`
	Build    string    `json:"build"`
	Draining bool      `json:"draining,omitempty"`
	// Claims is how many connections an edge claims to hold.
	Claims *int `json:"claims,omitempty"`
}

type claimView struct {
	Edge       string             `json:"edge"`
	Session    protocol.SessionID `json:"session"`
	Daemon     protocol.DaemonID  `json:"daemon"`
	Generation uint64             `json:"generation"`
}

// MembersPage shows the members and claims that a node knows by gossip.
func MembersPage(d *ring.Directory) admin.Page {
	return admin.Page{
		Path: "/members", About: "members as this node sees them, with how many connections each edge claims; ?orchestrator= has its claims",
		Show: func(query url.Values) (any, error) {
			v := membersView{Self: d.Self().Name, Settled: d.Settled(), Current: d.Current(), Outage: d.Outage(), Members: []memberView{}}
			for _, l := range d.Loads() {
				m := viewOf(l.Member)
				m.Claims = &l.Connections
				v.Members = append(v.Members, m)
			}
			for _, m := range d.Members(ring.TierRouter) {
				v.Members = append(v.Members, viewOf(m))
			}
			if id := query.Get("orchestrator"); id != "" {
				for _, h := range d.Holdings(event.TokenOf(protocol.OrchestratorID(id))) {
					v.Claims = append(v.Claims, claimView{h.Edge, h.Session, h.Daemon, h.Generation})
				}
			}
			return v, nil
		},
	}
}

func viewOf(m ring.Member) memberView {
	return memberView{Tier: m.Tier, Node: m.Node, Name: m.Name, Address: m.Address, Build: m.Build, Draining: m.Draining}
}

// defaultLimit is how many connections a page shows unless it is told.
const defaultLimit = 100

var errLimit = errors.New("limit: expected a whole number")

// RequestOf reads a request for connections from the parameters of a page.
func RequestOf(query url.Values) (ConnectionsRequest, error) {
	r := ConnectionsRequest{
		Selection: Selection{
			Orchestrator: query.Get("orchestrator"), Daemon: query.Get("daemon"),
			Session: query.Get("session"), Address: query.Get("address"),
		},
		Sort: query.Get("sort"), Limit: defaultLimit,
	}
	if text := query.Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 0 {
			return r, errLimit
		}
		r.Limit = limit
	}
	return r, nil
}
