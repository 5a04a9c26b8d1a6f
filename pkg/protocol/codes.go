package protocol

import "fmt"

// ErrorCode says what kind of fault an error message reports. The connection
// stays open unless a close frame follows.
type ErrorCode string

// The codes of error messages.
const (
	InvalidMessage         ErrorCode = "INVALID_MESSAGE"
	NotAuthenticated       ErrorCode = "NOT_AUTHENTICATED"
	ErrorInsufficientScope ErrorCode = "INSUFFICIENT_SCOPE"
	RateLimited            ErrorCode = "RATE_LIMITED"
	InternalError          ErrorCode = "INTERNAL_ERROR"
)

// AuthErrorCode says why an auth was refused.
type AuthErrorCode string

// The codes of auth_error messages; each is followed by a close with CloseCode.
const (
	AuthFailed            AuthErrorCode = "AUTH_FAILED"
	AuthTokenExpired      AuthErrorCode = "TOKEN_EXPIRED"
	AuthInsufficientScope AuthErrorCode = "INSUFFICIENT_SCOPE"
	AuthMaxConnections    AuthErrorCode = "MAX_CONNECTIONS"
)

// CloseCode is the close code that follows an auth_error with this code. An
// unknown code is treated as AUTH_FAILED.
func (c AuthErrorCode) CloseCode() CloseCode {
	switch c {
	case AuthTokenExpired:
		return CloseTokenExpired
	case AuthInsufficientScope:
		return CloseInsufficientScope
	case AuthMaxConnections:
		return CloseSessionTerminated
	default:
		return CloseAuthFailed
	}
}

// CloseCode is the status of a WebSocket close.
type CloseCode int

// The close codes that the gateway sends, and those a client meets without a
// close frame from it.
const (
	CloseNormal        CloseCode = 1000
	CloseGoingAway     CloseCode = 1001
	CloseProtocolError CloseCode = 1002
	CloseUnsupported   CloseCode = 1003 // a binary frame
	CloseNoStatus      CloseCode = 1005 // never sent: the peer's close frame had no code
	CloseAbnormal      CloseCode = 1006 // never sent: the connection ended without a close frame
	CloseInvalidUTF8   CloseCode = 1007
	CloseTooLarge      CloseCode = 1009
	CloseInternal      CloseCode = 1011

	CloseAuthFailed        CloseCode = 4001
	CloseAuthTimeout       CloseCode = 4002
	CloseTokenExpired      CloseCode = 4003
	CloseRateLimited       CloseCode = 4004
	CloseInsufficientScope CloseCode = 4005
	// CloseSessionTerminated: missed heartbeats, over the connection limit, or the
	// same daemon id has connected again.
	CloseSessionTerminated CloseCode = 4006
)

// Reconnect says what a client should do after a close.
type Reconnect int

// What a client should do after a close.
const (
	// ReconnectBackoff: connect again with growing, jittered delays.
	ReconnectBackoff Reconnect = iota
	// ReconnectFreshToken: the same, but never with the token used before.
	ReconnectFreshToken
	// ReconnectSlowly: connect again only after the longest delay, since coming
	// back soon would be refused again.
	ReconnectSlowly
	// ReconnectNever: trying again cannot succeed until somebody changes the
	// credentials or the rights.
	ReconnectNever
)

type closeInfo struct {
	name      string
	reconnect Reconnect
}

// closeTable holds everything that is known of a close code.
var closeTable = map[CloseCode]closeInfo{
	CloseNormal:            {"NORMAL", ReconnectBackoff},
	CloseGoingAway:         {"GOING_AWAY", ReconnectBackoff},
	CloseProtocolError:     {"PROTOCOL_ERROR", ReconnectBackoff},
	CloseUnsupported:       {"UNSUPPORTED_DATA", ReconnectBackoff},
	CloseNoStatus:          {"NO_STATUS", ReconnectBackoff},
	CloseAbnormal:          {"ABNORMAL", ReconnectBackoff},
	CloseInvalidUTF8:       {"INVALID_UTF8", ReconnectBackoff},
	CloseTooLarge:          {"MESSAGE_TOO_LARGE", ReconnectBackoff},
	CloseInternal:          {"INTERNAL_ERROR", ReconnectBackoff},
	CloseAuthFailed:        {"AUTH_FAILED", ReconnectNever},
	CloseAuthTimeout:       {"AUTH_TIMEOUT", ReconnectBackoff},
	CloseTokenExpired:      {"TOKEN_EXPIRED", ReconnectFreshToken},
	CloseRateLimited:       {"RATE_LIMITED", ReconnectSlowly},
	CloseInsufficientScope: {"INSUFFICIENT_SCOPE", ReconnectNever},
	CloseSessionTerminated: {"SESSION_TERMINATED", ReconnectBackoff},
}

// String returns the code's name, such as "AUTH_FAILED", or "CLOSE_<n>" for a
// code that is not of this protocol. The names are a closed set apart from
// that, see Known.
func (c CloseCode) String() string {
	if info, ok := closeTable[c]; ok {
		return info.name
	}
	return fmt.Sprintf("CLOSE_%d", int(c))
}

// Known reports whether the code is one of this protocol's, so that its name
// may be a metric label.
func (c CloseCode) Known() bool {
	_, ok := closeTable[c]
	return ok
}

// Reconnect says what a client should do after a close with this code; an
// unknown code asks for ReconnectBackoff.
func (c CloseCode) Reconnect() Reconnect { return closeTable[c].reconnect }
