package delivery

import (
	"strings"

	"github.com/neolith/daemon-gateway/pkg/event"
)

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

// ReceiptInbox is where a router that has a new inbox receives edges' receipts for
// batches. It is not the inbox itself, where events are received from the log:
// edges may publish here, and not there.
func ReceiptInbox(inbox string) string { return below(inbox, "receipts") }

// AnswerInbox is where an edge that has a new inbox receives what another answers,
// for the same reason.
func AnswerInbox(inbox string) string { return below(inbox, "answers") }

// below puts what stands behind an inbox's prefix under a name of its own.
func below(inbox, name string) string {
	at := strings.LastIndexByte(inbox, '.')
	return inbox[:at+1] + name + inbox[at:]
}

func subject(edge event.Token, what string) string { return "daemon.edge." + string(edge) + "." + what }
