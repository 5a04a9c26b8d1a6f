package operation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Selection says which connections are meant: those that fit all that is given.
type Selection struct {
	// Edge is the name of a node; others answer that they hold none.
	Edge         string `json:"edge,omitempty"`
	Orchestrator string `json:"orchestrator,omitempty"`
	Daemon       string `json:"daemon,omitempty"`
	Session      string `json:"session,omitempty"`
	// Address is an IP address, or a range such as 10.0.0.0/8.
	Address string `json:"address,omitempty"`
}

// Filter returns what reports whether a connection of an edge is meant.
func (s Selection) Filter(edge string) (func(Connection) bool, error) {
	within := func(netip.Addr) bool { return true }
	if s.Address != "" {
		prefix, err := parseRange(s.Address)
		if err != nil {
			return nil, err
		}
		within = func(a netip.Addr) bool { return prefix.Contains(a.Unmap()) }
	}
	fits := func(wanted, have string) bool { return wanted == "" || wanted == have }
	return func(c Connection) bool {
		return fits(s.Edge, edge) && fits(s.Orchestrator, c.Orchestrator) && fits(s.Daemon, c.Daemon) &&
			fits(s.Session, c.Session) && within(c.Address)
	}, nil
}

// Empty reports whether all connections are meant.
func (s Selection) Empty() bool { return s == Selection{} }

func parseRange(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a range such as 10.0.0.0/8", text)
	}
	return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
}

// ConnectionsRequest asks an edge for connections.
type ConnectionsRequest struct {
	Selection
	// Sort is a key of Orders, "" the first; Limit is how many are told of, at most
	// MaxConnections.
	Sort  string `json:"sort,omitempty"`
	Limit int    `json:"limit"`
}

const (
	// MaxConnections bounds an answer, and maxReportBytes where daemons have given
	// themselves long ids, so that it fits into a message of NATS.
	MaxConnections = 500
	maxReportBytes = 768 << 10
	// maxChannels is how many of a subscription's, of which a daemon may name
	// thousands, are told of.
	maxChannels = 5
)

// MaxSubscriptions is how many of a connection's are told of.
const MaxSubscriptions = 10

// Connection is one of a daemon's.
type Connection struct {
	Session      string     `json:"session"`
	Orchestrator string     `json:"orchestrator,omitempty"`
	Daemon       string     `json:"daemon,omitempty"`
	Address      netip.Addr `json:"address"`
	// State is connected (not authenticated yet), authenticated or subscribed.
	State string `json:"state"`
	// Since is when it was admitted; zero: it has not been.
	Since time.Time `json:"since,omitzero"`
	// Subscriptions are as Subscribed says it, at most MaxSubscriptions.
	Subscriptions []string `json:"subscriptions,omitempty"`
	// Unsettled are events that were sent, or are about to be, and are not settled.
	Unsettled int `json:"unsettled"`
	// Position is up to where the log was looked at for it.
	Position string `json:"position,omitempty"`
	// TokenExpires is when the session ends unless it is extended.
	TokenExpires time.Time `json:"tokenExpires,omitzero"`
}

// Subscribed says what a subscription is to: a pattern, and its channels if it has
// any.
func Subscribed(s protocol.Subscription) string {
	if len(s.Channels) == 0 {
		return string(s.Pattern)
	}
	told := s.Channels[:min(len(s.Channels), maxChannels)]
	text := fmt.Sprintf("%s[%s", s.Pattern, strings.Join(told, ","))
	if more := len(s.Channels) - len(told); more > 0 {
		text += fmt.Sprintf(",… %d more", more)
	}
	return text + "]"
}

// ConnectionsReport is what an edge answers.
type ConnectionsReport struct {
	// Total is how many fit, of which Connections are the first.
	Total       int          `json:"total"`
	Connections []Connection `json:"connections"`
}

// orders are the orders in which connections can be told of. What an operator
// looks for comes first.
var orders = map[string]func(a, b Connection) int{
	"orchestrator": func(a, b Connection) int {
		return cmp.Or(cmp.Compare(a.Orchestrator, b.Orchestrator), cmp.Compare(a.Daemon, b.Daemon))
	},
	"unsettled": func(a, b Connection) int { return cmp.Compare(b.Unsettled, a.Unsettled) },
	"since":     func(a, b Connection) int { return a.Since.Compare(b.Since) },
	"expires":   func(a, b Connection) int { return a.TokenExpires.Compare(b.TokenExpires) },
	"address":   func(a, b Connection) int { return a.Address.Compare(b.Address) },
}

// Orders are the names of the orders.
var Orders = []string{"orchestrator", "unsettled", "since", "expires", "address"}

// Order sorts connections by one of Orders.
func Order(list []Connection, by string) error {
	compare := orders[cmp.Or(by, Orders[0])]
	if compare == nil {
		return fmt.Errorf("%q is no order, expected one of %s", by, strings.Join(Orders, ", "))
	}
	slices.SortFunc(list, func(a, b Connection) int { return cmp.Or(compare(a, b), cmp.Compare(a.Session, b.Session)) })
	return nil
}

// Select answers the request from all connections of an edge.
func (r ConnectionsRequest) Select(edge string, all []Connection) (ConnectionsReport, error) {
	fits, err := r.Filter(edge)
	if err != nil {
		return ConnectionsReport{}, err
	}
	list := slices.DeleteFunc(all, func(c Connection) bool { return !fits(c) })
	if err := Order(list, r.Sort); err != nil {
		return ConnectionsReport{}, err
	}
	limit := min(len(list), max(r.Limit, 0), MaxConnections)
	return ConnectionsReport{Total: len(list), Connections: list[:fitting(list[:limit])]}, nil
}

// fitting returns how many of the first connections fit into an answer.
func fitting(list []Connection) int {
	bytes := 0
	for i, c := range list {
		text, _ := json.Marshal(c) // it has no value that cannot be encoded
		if bytes += len(text); bytes > maxReportBytes {
			return i
		}
	}
	return len(list)
}
