// Package client is a daemon's side of the gateway: it keeps one connection
// for an orchestrator, delivers its events to a handler in order, acknowledges
// them, and connects again whenever the connection is lost.
//
// Delivery is at least once. A repeat of an event that is in hand or was done
// lately is not handled again; but an event may be handled twice after a restart
// (Event.Redelivered marks most repeats), so a handler must be idempotent. The
// gateway is told what the handler is working on, however long that takes. Client
// runs the protocol of package protocol and holds no state on disk; where to
// continue is the gateway's cursor, unless Config.Resume names a position.
//
//	 ┌────────────────────────── delay ◀───────────────────────────┐
//	 ▼                                                             │
//	connecting ──▶ authenticated ──▶ subscribed ──▶ disconnected ──┤
//	     └────────────────┴───────────────────────────▲            ▼
//	                                             stopped: context ended or refused for good
package client
