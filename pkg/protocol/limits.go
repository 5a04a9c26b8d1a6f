package protocol

import "time"

// Limits of single messages. Unless said otherwise, what is over them is answered
// with INVALID_MESSAGE, except for a frame over the size limit, which closes the
// connection with CloseTooLarge.
const (
	// DefaultMaxMessageBytes is the default size limit of a client's frame.
	DefaultMaxMessageBytes = 64 << 10
	// MaxSubscriptions is how many event types a connection may be subscribed
	// to, and how many one subscribe or unsubscribe may name.
	MaxSubscriptions = 50
	// MaxChannelIDs is how many channels one subscribe may name.
	MaxChannelIDs = 1000
	// MaxAckIDs is how many events one ack, or a heartbeat's inProgress, may name.
	MaxAckIDs = 1000
	// MaxMetricsBytes is how much a heartbeat may report; what is over it is left
	// out, and the heartbeat counts.
	MaxMetricsBytes = 4 << 10
	// MaxCloseReasonBytes is the longest reason a close frame can carry (RFC 6455).
	MaxCloseReasonBytes = 123
)

// Defaults of a gateway's timing.
const (
	DefaultAuthTimeout       = 10 * time.Second
	DefaultHeartbeatInterval = 30 * time.Second
	// MissedHeartbeats is after how many intervals without a heartbeat a
	// connection is closed.
	MissedHeartbeats  = 3
	DefaultAckTimeout = 30 * time.Second
)
