package protocol

import (
	"encoding/json"
	"maps"
	"math"
	"time"
)

// MessageType is the "type" of a message.
type MessageType string

// The messages of a client.
const (
	TypeAuth        MessageType = "auth"
	TypeHeartbeat   MessageType = "heartbeat"
	TypeSubscribe   MessageType = "subscribe"
	TypeUnsubscribe MessageType = "unsubscribe"
	TypeAck         MessageType = "ack"
)

// The messages of the gateway.
const (
	TypeAuthSuccess   MessageType = "auth_success"
	TypeAuthError     MessageType = "auth_error"
	TypeSubscribed    MessageType = "subscribed"
	TypeHeartbeatAck  MessageType = "heartbeat_ack"
	TypeEvent         MessageType = "event"
	TypeError         MessageType = "error"
	TypeRateLimit     MessageType = "rate_limit"
	TypeTokenExpiring MessageType = "token_expiring"
	TypeReconnect     MessageType = "reconnect"
)

// ClientPayload is one of Auth, Heartbeat, Subscribe, Unsubscribe and Ack.
type ClientPayload interface {
	// Type is the message type that carries this payload.
	Type() MessageType
	isClientPayload()
}

// Auth is the first message of a connection. Sent again on an authenticated
// connection, with a fresh token for the same ids, it extends the session.
type Auth struct {
	AccessToken    string         `json:"accessToken"`
	DaemonID       DaemonID       `json:"daemonId"`
	OrchestratorID OrchestratorID `json:"orchestratorId"`
	// Resume asks to continue after a position; nil leaves the start to the
	// gateway's cursor.
	Resume *Resume `json:"resume,omitempty"`
}

// Resume names the place in the log after which a connection wants to continue.
type Resume struct {
	// Position is what an event or subscribed carried; opaque to clients. One
	// that is not valid any more is ignored by the gateway.
	Position string `json:"position"`
}

// Status is what a daemon says it is doing.
type Status string

// The statuses of a heartbeat.
const (
	StatusActive Status = "active"
	StatusIdle   Status = "idle"
	StatusBusy   Status = "busy"
)

// Heartbeat keeps a connection alive and reports health. All of it is optional.
type Heartbeat struct {
	// Status is empty when the client did not say: then it is unchanged.
	Status Status `json:"status,omitempty"`
	// Metrics is a JSON object of at most MaxMetricsBytes, such as
	// {"memoryUsageBytes": 1e6}, carried as it is; nil: nothing to report.
	Metrics json.RawMessage `json:"metrics,omitempty"`
	// InProgress are the ids of events that the daemon is still working on, so
	// that the time it takes is not held against them. At most MaxAckIDs.
	InProgress []string `json:"inProgress,omitempty"`
}

// Numbers returns metrics of plain numbers. Those that JSON has no form for, such
// as NaN, are left out.
func Numbers(metrics map[string]float64) json.RawMessage {
	metrics = maps.Clone(metrics)
	maps.DeleteFunc(metrics, func(_ string, n float64) bool { return math.IsNaN(n) || math.IsInf(n, 0) })
	text, _ := json.Marshal(metrics) // cannot fail for finite numbers
	return text
}

// Subscribe adds to the connection's subscriptions.
type Subscribe struct {
	// EventTypes holds 1 to MaxSubscriptions valid patterns, each once.
	EventTypes []Pattern `json:"eventTypes"`
	// ChannelIDs limits these patterns to events of these channels; empty: all.
	ChannelIDs []string `json:"channelIds,omitempty"`
	// Confirm asks for Subscribed also where this is not the first subscribe.
	Confirm bool `json:"confirm,omitempty"`
}

// Unsubscribe removes patterns from the connection's subscriptions.
type Unsubscribe struct {
	EventTypes []Pattern `json:"eventTypes"`
}

// Ack says that events have been processed.
type Ack struct {
	// EventIDs holds 1 to MaxAckIDs ids.
	EventIDs []string `json:"eventIds"`
}

// Type implements ClientPayload.
func (Auth) Type() MessageType { return TypeAuth }

// Type implements ClientPayload.
func (Heartbeat) Type() MessageType { return TypeHeartbeat }

// Type implements ClientPayload.
func (Subscribe) Type() MessageType { return TypeSubscribe }

// Type implements ClientPayload.
func (Unsubscribe) Type() MessageType { return TypeUnsubscribe }

// Type implements ClientPayload.
func (Ack) Type() MessageType { return TypeAck }

func (Auth) isClientPayload()        {}
func (Heartbeat) isClientPayload()   {}
func (Subscribe) isClientPayload()   {}
func (Unsubscribe) isClientPayload() {}
func (Ack) isClientPayload()         {}

// ServerPayload is one of AuthSuccess, AuthError, Subscribed, HeartbeatAck,
// Event, Fault, RateLimit, TokenExpiring and Reconnection.
type ServerPayload interface {
	// Type is the message type that carries this payload.
	Type() MessageType
	appendPayload(buf []byte) []byte
}

// AuthSuccess answers an auth that was accepted.
type AuthSuccess struct {
	SessionID SessionID
	Scopes    []string
	// ServerTime is the gateway's clock.
	ServerTime time.Time
	// HeartbeatInterval is how often the client is to send a heartbeat; in
	// whole milliseconds on the wire.
	HeartbeatInterval time.Duration
	// ExpiresAt is when the session ends without a fresh auth; zero: not said.
	ExpiresAt time.Time
}

// AuthError answers an auth that was refused; the connection is closed next,
// with Code.CloseCode().
type AuthError struct {
	Code    AuthErrorCode
	Message string
}

// Subscribed says that the first subscribe has taken effect.
type Subscribed struct {
	// Position is the place in the log after which delivery starts.
	Position string
	// Resumed: a cursor or a valid resume position was found.
	Resumed bool
	// Truncated: events may have been dropped undelivered, because the
	// orchestrator's store is full and its oldest event lies above the cursor.
	Truncated bool
}

// HeartbeatAck answers a heartbeat.
type HeartbeatAck struct {
	ServerTime    time.Time
	NextHeartbeat time.Time
}

// Event carries one event to a daemon.
type Event struct {
	EventID   string
	EventType EventType
	// Data is the publisher's payload, byte for byte.
	Data json.RawMessage
	// RequiresAck: the event is sent again until it is acknowledged.
	RequiresAck bool
	// Position is the event's place in the log, for Resume.
	Position string
	// Redelivered is true when the event may have been sent to a daemon before.
	Redelivered bool
	ChannelID   string
	WorkspaceID string
	Priority    int
	// CreatedAt is the publisher's timestamp as published; may be empty.
	CreatedAt string
}

// RateLimit says that a message was not carried out because its sender is over
// a limit.
type RateLimit struct {
	// Action is what is limited: a message type, or ActionMessages.
	Action string
	// RetryAfter is how long to wait; in whole seconds on the wire, rounded up.
	RetryAfter time.Duration
	// CurrentRate and MaxRate are in messages a minute.
	CurrentRate int
	MaxRate     int
}

// ActionMessages is the action of a limit on all messages together.
const ActionMessages = "messages"

// TokenExpiring asks for a fresh auth on the same connection.
type TokenExpiring struct {
	ExpiresAt time.Time
}

// Reconnection asks the client to wait for Delay, close, and connect again.
type Reconnection struct {
	Reason string
	// Delay is in whole milliseconds on the wire.
	Delay time.Duration
}

// Fault is what an error message says. It is also the error with which
// ParseClientMessage refuses a message.
type Fault struct {
	Code    ErrorCode
	Message string
	// Field is the path of the JSON field at fault, such as
	// "payload.eventTypes[1]"; empty when there is none.
	Field string
	// Detail says what was expected of the field.
	Detail string
	// InReplyTo is the id of the message at fault, if it was readable.
	InReplyTo string
	// Close is the code to close the connection with after the error; 0 keeps
	// it open. It is not on the wire.
	Close CloseCode
	// LeftOut are the optional fields that a message was read without; the rest
	// of it is carried out. It is not on the wire.
	LeftOut []string
}

// Optional lists the fields that Fault.LeftOut may name.
var Optional = []string{"payload", "status", "metrics", "inProgress", "resume"}

// Error describes the fault in one line. It never contains a token.
func (f *Fault) Error() string { return string(f.Code) + ": " + f.Message }

// Type implements ServerPayload.
func (AuthSuccess) Type() MessageType { return TypeAuthSuccess }

// Type implements ServerPayload.
func (AuthError) Type() MessageType { return TypeAuthError }

// Type implements ServerPayload.
func (Subscribed) Type() MessageType { return TypeSubscribed }

// Type implements ServerPayload.
func (HeartbeatAck) Type() MessageType { return TypeHeartbeatAck }

// Type implements ServerPayload.
func (*Event) Type() MessageType { return TypeEvent }

// Type implements ServerPayload.
func (RateLimit) Type() MessageType { return TypeRateLimit }

// Type implements ServerPayload.
func (TokenExpiring) Type() MessageType { return TypeTokenExpiring }

// Type implements ServerPayload.
func (Reconnection) Type() MessageType { return TypeReconnect }

// Type implements ServerPayload.
func (*Fault) Type() MessageType { return TypeError }
