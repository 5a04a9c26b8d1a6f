package delivery

import "github.com/neolith/daemon-gateway/pkg/event"

// Subject is where the edge with this token receives its batches.
func Subject(edge event.Token) string { return subject(edge, "deliver") }

// AckSubject is where an edge is told by another what was acknowledged there by
// HTTP.
func AckSubject(edge event.Token) string { return subject(edge, "ack") }

// ProbeSubject is where an edge is asked by another whether one of its
// connections lives.
func ProbeSubject(edge event.Token) string { return subject(edge, "probe") }

// CursorSubject is where an edge is told by another that the cursors of an
// orchestrator say something else of its connections than before.
func CursorSubject(edge event.Token) string { return subject(edge, "cursor") }

func subject(edge event.Token, what string) string { return "daemon.edge." + string(edge) + "." + what }
