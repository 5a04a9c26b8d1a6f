// Package protocol is what an orchestrator daemon and the gateway say to each
// other over a WebSocket: message types, payloads, codes, limits, validation,
// and the frames' exact form. It sends and receives nothing itself; the edge
// speaks the server's side and package client the daemon's.
//
// Every frame is a text frame with one JSON object, the envelope:
//
//	{"type": "...", "id": "...", "timestamp": "<ISO 8601>", "payload": {...}}
//
// Unknown fields are ignored on both sides; the gateway reads field names
// case-sensitively. A client also ignores messages of a type it does not know.
// The usual flow:
//
//	daemon                                gateway
//	auth                             ──▶
//	                                 ◀──  auth_success, or auth_error and close
//	subscribe                        ──▶
//	                                 ◀──  subscribed
//	                                 ◀──  event …
//	ack                              ──▶
//	heartbeat (each interval)        ──▶
//	                                 ◀──  heartbeat_ack
//	                                 ◀──  token_expiring
//	auth (fresh token)               ──▶
//	                                 ◀──  auth_success
//	                                 ◀──  reconnect
//	close 1000                       ──▶
//
// History of Version: 1, as spoken by the first daemons; 2 added, all optional
// for a client: auth.resume and the repeated auth, auth_success.expiresAt,
// subscribed, token_expiring, error.inReplyTo, heartbeat.inProgress, and in event
// position, redelivered, channelId, workspaceId, priority and createdAt.
package protocol

// Name and Version identify the protocol where a server describes itself; they
// are not sent in messages.
const (
	Name    = "neolith-daemon"
	Version = 2
)

// Path is where a gateway accepts WebSocket upgrades; PathAlias does the same.
const (
	Path      = "/daemon/ws"
	PathAlias = "/api/daemon/ws"
)
