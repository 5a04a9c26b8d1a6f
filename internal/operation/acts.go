package operation

import (
	"errors"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/internal/logbook"
)

// Act says who acts and why, for the audit log. Both are to be given.
type Act struct {
	By      string `json:"by"`
	Because string `json:"because"`
}

// maxActText bounds what of each goes into the log.
const maxActText = 256

// Check refuses an act of nobody, or without a reason.
func (a Act) Check() error {
	if strings.TrimSpace(a.By) == "" || strings.TrimSpace(a.Because) == "" {
		return errors.New("an act needs who wants it and why")
	}
	return nil
}

// Attributes are those of an audit line.
func (a Act) Attributes() []any {
	cut := func(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxActText)], "") }
	return []any{"by", cut(a.By), "because", cut(a.Because)}
}

// DisconnectRequest ends connections. All has to be set where none is left out.
type DisconnectRequest struct {
	Selection
	Act
	All bool `json:"all,omitempty"`
}

// DisconnectReport says how many were ended.
type DisconnectReport struct {
	Ended int `json:"ended"`
}

// DrainRequest has an edge take no connections and send those away that it has, or
// takes that back. All edges hear it, and the one that is named heeds it.
type DrainRequest struct {
	Edge string `json:"edge"`
	Act
	// Alone drains also where no other edge takes connections.
	Alone bool `json:"alone,omitempty"`
}

// DrainReport says what came of it.
type DrainReport struct {
	// Heeded: this is the edge that was named.
	Heeded      bool `json:"heeded"`
	Connections int  `json:"connections"`
}

// LogLevelRequest changes log levels of nodes for a while, or asks for what is in
// force.
type LogLevelRequest struct {
	// Nodes are the names of those that heed it; none: all.
	Nodes []string `json:"nodes,omitempty"`
	// Show changes nothing and needs no Act; Reset ends the change of the same target.
	Show  bool `json:"show,omitempty"`
	Reset bool `json:"reset,omitempty"`
	Act
	logbook.Request
}

// Check refuses an act of nobody, or without a reason.
func (r LogLevelRequest) Check() error {
	if r.Show {
		return nil
	}
	return r.Act.Check()
}

// heededBy reports whether a node heeds it.
func (r LogLevelRequest) heededBy(node string) bool {
	return len(r.Nodes) == 0 || slices.Contains(r.Nodes, node)
}

// BalanceRequest has all edges balance their connections now.
type BalanceRequest struct {
	Act
	// DryRun changes nothing and needs no Act.
	DryRun bool `json:"dryRun,omitempty"`
}

// Check refuses an act of nobody, or without a reason.
func (r BalanceRequest) Check() error {
	if r.DryRun {
		return nil
	}
	return r.Act.Check()
}

// NoteRequest has one edge write into its audit log what an operator is about to do
// without any node.
type NoteRequest struct {
	Act
	Done string `json:"done"` // one of Noted
	Of   string `json:"of"`
}

// What an operator does without any node.
const (
	Revoked            = "revoking"
	Unrevoked          = "unrevoking"
	Published          = "publishing"
	DeadLetterReplayed = "replaying_dead_letters"
	DeadLetterDropped  = "dropping_dead_letters"
)

// Noted are all of these.
var Noted = []string{Revoked, Unrevoked, Published, DeadLetterReplayed, DeadLetterDropped}
