package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// State is where a client is in the life of a connection.
type State string

// The states, see the picture at the package comment.
const (
	StateConnecting    State = "connecting"
	StateAuthenticated State = "authenticated"
	StateSubscribed    State = "subscribed"
	StateDisconnected  State = "disconnected"
	StateStopped       State = "stopped"
)

// StateChange tells an observer what happened. Fields that do not belong to
// the state are zero.
type StateChange struct {
	State State
	Time  time.Time
	// URL is the gateway of this connection.
	URL string
	// SessionID is known from StateAuthenticated on.
	SessionID protocol.SessionID
	// Subscribed is what the gateway said with StateSubscribed.
	Subscribed *protocol.Subscribed

	// Close and Reason say how the connection ended (StateDisconnected).
	// CloseAbnormal: without a close frame, or there never was a connection.
	Close  protocol.CloseCode
	Reason string
	// Local: this side closed.
	Local bool
	// Err says more about a failure; with StateStopped it is what Run returns.
	Err error
	// Delay is the wait before the next attempt (StateDisconnected).
	Delay time.Duration
}

// Frame is one frame on the wire.
type Frame struct {
	// Sent: from this client, told just before it is written, which may fail;
	// else received.
	Sent bool
	Time time.Time
	Type protocol.MessageType
	// Data is the whole frame, not to be modified; nil for a sent auth, which
	// holds the token.
	Data []byte
}

// ErrNoAck is returned by a handler that acknowledges later, with Client.Ack.
// Until then the event is in hand: it is not handled again when it is repeated.
// To have it handled again, return another error.
var ErrNoAck = errors.New("acknowledged later")

// ErrDead is wrapped in StateChange.Err when a connection was given up because
// the gateway did not answer heartbeats.
var ErrDead = errors.New("connection is dead")

// RejectedError is returned by Run when the gateway refused this daemon in a
// way that trying again cannot mend: AUTH_FAILED or INSUFFICIENT_SCOPE.
type RejectedError struct {
	// Code is that of the auth_error; "" when only the close was seen.
	Code    protocol.AuthErrorCode
	Message string
	Close   protocol.CloseCode
}

// Error describes the refusal in one line.
func (e *RejectedError) Error() string {
	return fmt.Sprintf("gateway refused the daemon: %s (%d): %s", e.Close, int(e.Close), e.Message)
}

// HandshakeError is wrapped in StateChange.Err when a gateway answered the
// upgrade with something else.
type HandshakeError struct {
	// Status is the HTTP status.
	Status int
	// RetryAfter is how long the gateway asked to wait; 0: not said.
	RetryAfter time.Duration
}

// Error describes the answer in one line.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("gateway answered the upgrade with HTTP status %d", e.Status)
}
