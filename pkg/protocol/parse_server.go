package protocol

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// ServerMessage is a message of the gateway.
type ServerMessage struct {
	Type MessageType
	ID   string
	// Payload is nil for a type that this package does not know, which a client
	// ignores.
	Payload ServerPayload
}

// ParseServerMessage reads one frame of the gateway. It is lenient: it checks
// only what a client needs. Event.Data holds the bytes as they were sent.
func ParseServerMessage(data []byte) (ServerMessage, error) {
	var envelope struct {
		Type    MessageType     `json:"type"`
		ID      string          `json:"id"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(data, &envelope); err != nil {
		return ServerMessage{}, fmt.Errorf("read envelope: %w", err)
	}
	m := ServerMessage{Type: envelope.Type, ID: envelope.ID}
	decode, known := serverPayloads[m.Type]
	if !known {
		return m, nil
	}
	if len(envelope.Payload) == 0 {
		envelope.Payload = json.RawMessage("{}")
	}
	payload, err := decode(envelope.Payload)
	if err != nil {
		return m, fmt.Errorf("read payload of %s: %w", m.Type, err)
	}
	m.Payload = payload
	return m, nil
}

var serverPayloads = map[MessageType]func(json.RawMessage) (ServerPayload, error){
	TypeAuthSuccess:   readAuthSuccess,
	TypeAuthError:     readAuthError,
	TypeSubscribed:    readSubscribed,
	TypeHeartbeatAck:  readHeartbeatAck,
	TypeEvent:         readEvent,
	TypeError:         readFault,
	TypeRateLimit:     readRateLimit,
	TypeTokenExpiring: readTokenExpiring,
	TypeReconnect:     readReconnection,
}

func readAuthSuccess(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		SessionID           SessionID `json:"sessionId"`
		Scopes              []string  `json:"scopes"`
		ServerTime          looseTime `json:"serverTime"`
		HeartbeatIntervalMs float64   `json:"heartbeatIntervalMs"`
		ExpiresAt           looseTime `json:"expiresAt"`
	}
	err := json.Unmarshal(raw, &p)
	return AuthSuccess{
		SessionID: p.SessionID, Scopes: p.Scopes, ServerTime: p.ServerTime.Time, ExpiresAt: p.ExpiresAt.Time,
		HeartbeatInterval: durationOf(p.HeartbeatIntervalMs, time.Millisecond),
	}, err
}

func readAuthError(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		Code    AuthErrorCode `json:"code"`
		Message string        `json:"message"`
	}
	err := json.Unmarshal(raw, &p)
	return AuthError(p), err
}

func readSubscribed(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		Position  string `json:"position"`
		Resumed   bool   `json:"resumed"`
		Truncated bool   `json:"truncated"`
	}
	err := json.Unmarshal(raw, &p)
	return Subscribed(p), err
}

func readHeartbeatAck(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		ServerTime    looseTime `json:"serverTime"`
		NextHeartbeat looseTime `json:"nextHeartbeat"`
	}
	err := json.Unmarshal(raw, &p)
	return HeartbeatAck{ServerTime: p.ServerTime.Time, NextHeartbeat: p.NextHeartbeat.Time}, err
}

func readEvent(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		EventID     string          `json:"eventId"`
		EventType   EventType       `json:"eventType"`
		Data        json.RawMessage `json:"data"`
		RequiresAck bool            `json:"requiresAck"`
		Position    string          `json:"position"`
		Redelivered bool            `json:"redelivered"`
		ChannelID   string          `json:"channelId"`
		WorkspaceID string          `json:"workspaceId"`
		Priority    int             `json:"priority"`
		CreatedAt   string          `json:"createdAt"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	e := Event(p)
	return &e, nil
}

func readFault(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		Code    ErrorCode `json:"code"`
		Message string    `json:"message"`
		Details struct {
			Field string `json:"field"`
			Error string `json:"error"`
		} `json:"details"`
		InReplyTo string `json:"inReplyTo"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	return &Fault{Code: p.Code, Message: p.Message, Field: p.Details.Field, Detail: p.Details.Error, InReplyTo: p.InReplyTo}, nil
}

func readRateLimit(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		Action      string  `json:"action"`
		RetryAfter  float64 `json:"retryAfter"`
		CurrentRate float64 `json:"currentRate"`
		MaxRate     float64 `json:"maxRate"`
	}
	err := json.Unmarshal(raw, &p)
	return RateLimit{
		Action: p.Action, RetryAfter: durationOf(p.RetryAfter, time.Second),
		CurrentRate: int(p.CurrentRate), MaxRate: int(p.MaxRate),
	}, err
}

func readTokenExpiring(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		ExpiresAt looseTime `json:"expiresAt"`
	}
	err := json.Unmarshal(raw, &p)
	return TokenExpiring{ExpiresAt: p.ExpiresAt.Time}, err
}

func readReconnection(raw json.RawMessage) (ServerPayload, error) {
	var p struct {
		Reason string  `json:"reason"`
		Delay  float64 `json:"delay"`
	}
	err := json.Unmarshal(raw, &p)
	return Reconnection{Reason: p.Reason, Delay: durationOf(p.Delay, time.Millisecond)}, err
}

// looseTime reads a time of RFC 3339; anything else is the zero time, since no
// client's work depends on it.
type looseTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *looseTime) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		t.Time, _ = time.Parse(time.RFC3339, text)
	}
	return nil
}

// durationOf turns a number of units into a duration of at least 0 and at most
// a day: no field of the protocol means more.
func durationOf(n float64, unit time.Duration) time.Duration {
	if math.IsNaN(n) || n < 0 {
		return 0
	}
	return time.Duration(min(n*float64(unit), float64(24*time.Hour)))
}
