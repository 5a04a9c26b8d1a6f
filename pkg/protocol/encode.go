package protocol

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// AppendFrame appends the whole frame of a gateway's message to buf, with a
// fresh UUID as its id and now as its timestamp.
func AppendFrame(buf []byte, now time.Time, payload ServerPayload) []byte {
	if e, ok := payload.(*Event); ok {
		return AppendEvent(buf, now, e)
	}
	buf = appendEnvelope(buf, payload.Type(), now)
	buf = payload.appendPayload(buf)
	return append(buf, '}')
}

// AppendEvent is AppendFrame for an event, without allocating. Data is written
// byte for byte, so it must be valid JSON.
func AppendEvent(buf []byte, now time.Time, e *Event) []byte {
	buf = appendEnvelope(buf, TypeEvent, now)
	buf = e.appendPayload(buf)
	return append(buf, '}')
}

// EncodeClientMessage returns the whole frame of a client's message and the id
// it was given, a fresh UUID. It fails only for metrics that are not JSON.
func EncodeClientMessage(now time.Time, payload ClientPayload) (frame []byte, id string, err error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, "", fmt.Errorf("encode %s message: %w", payload.Type(), err)
	}
	u := newID()
	frame = appendHead(make([]byte, 0, len(body)+140), payload.Type(), u, now)
	frame = append(frame, body...)
	return append(frame, '}'), u.String(), nil
}

func appendEnvelope(buf []byte, t MessageType, now time.Time) []byte {
	return appendHead(buf, t, newID(), now)
}

func appendHead(buf []byte, t MessageType, id uuid.UUID, now time.Time) []byte {
	buf = append(buf, `{"type":"`...)
	buf = append(buf, t...)
	buf = append(buf, `","id":"`...)
	buf = appendUUID(buf, id)
	buf = append(buf, `","timestamp":`...)
	buf = appendTime(buf, now)
	return append(buf, `,"payload":`...)
}

// newID returns a random (version 4) UUID. Message ids only tell messages
// apart, so the runtime's generator does, which needs no system call.
func newID() uuid.UUID {
	var id uuid.UUID
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func appendUUID(buf []byte, id uuid.UUID) []byte {
	const digits = "0123456789abcdef"
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			buf = append(buf, '-')
		}
		buf = append(buf, digits[b>>4], digits[b&15])
	}
	return buf
}

// appendTime writes t in UTC with milliseconds, quoted.
func appendTime(buf []byte, t time.Time) []byte {
	buf = append(buf, '"')
	buf = t.UTC().AppendFormat(buf, timeLayout)
	return append(buf, '"')
}

func (p AuthSuccess) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"sessionId":`...)
	buf = appendString(buf, string(p.SessionID))
	buf = append(buf, `,"scopes":[`...)
	for i, scope := range p.Scopes {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendString(buf, scope)
	}
	buf = append(buf, `],"serverTime":`...)
	buf = appendTime(buf, p.ServerTime)
	buf = append(buf, `,"heartbeatIntervalMs":`...)
	buf = strconv.AppendInt(buf, p.HeartbeatInterval.Milliseconds(), 10)
	if !p.ExpiresAt.IsZero() {
		buf = append(buf, `,"expiresAt":`...)
		buf = appendTime(buf, p.ExpiresAt)
	}
	return append(buf, '}')
}

func (p AuthError) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"code":`...)
	buf = appendString(buf, string(p.Code))
	buf = append(buf, `,"message":`...)
	buf = appendString(buf, p.Message)
	return append(buf, '}')
}

func (p Subscribed) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"position":`...)
	buf = appendString(buf, p.Position)
	buf = append(buf, `,"resumed":`...)
	buf = strconv.AppendBool(buf, p.Resumed)
	buf = append(buf, `,"truncated":`...)
	buf = strconv.AppendBool(buf, p.Truncated)
	return append(buf, '}')
}

func (p HeartbeatAck) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"serverTime":`...)
	buf = appendTime(buf, p.ServerTime)
	buf = append(buf, `,"nextHeartbeat":`...)
	buf = appendTime(buf, p.NextHeartbeat)
	return append(buf, '}')
}

func (e *Event) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"eventId":`...)
	buf = appendString(buf, e.EventID)
	buf = append(buf, `,"eventType":`...)
	buf = appendString(buf, string(e.EventType))
	buf = append(buf, `,"data":`...)
	buf = append(buf, e.Data...)
	buf = append(buf, `,"requiresAck":`...)
	buf = strconv.AppendBool(buf, e.RequiresAck)
	buf = appendOptional(buf, `,"position":`, e.Position)
	if e.Redelivered {
		buf = append(buf, `,"redelivered":true`...)
	}
	buf = appendOptional(buf, `,"channelId":`, e.ChannelID)
	buf = appendOptional(buf, `,"workspaceId":`, e.WorkspaceID)
	if e.Priority != 0 {
		buf = append(buf, `,"priority":`...)
		buf = strconv.AppendInt(buf, int64(e.Priority), 10)
	}
	buf = appendOptional(buf, `,"createdAt":`, e.CreatedAt)
	return append(buf, '}')
}

func (p RateLimit) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"action":`...)
	buf = appendString(buf, p.Action)
	buf = append(buf, `,"retryAfter":`...)
	buf = strconv.AppendInt(buf, int64((p.RetryAfter+time.Second-1)/time.Second), 10)
	buf = append(buf, `,"currentRate":`...)
	buf = strconv.AppendInt(buf, int64(p.CurrentRate), 10)
	buf = append(buf, `,"maxRate":`...)
	buf = strconv.AppendInt(buf, int64(p.MaxRate), 10)
	return append(buf, '}')
}

func (p TokenExpiring) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"expiresAt":`...)
	buf = appendTime(buf, p.ExpiresAt)
	return append(buf, '}')
}

func (p Reconnection) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"reason":`...)
	buf = appendString(buf, p.Reason)
	buf = append(buf, `,"delay":`...)
	buf = strconv.AppendInt(buf, p.Delay.Milliseconds(), 10)
	return append(buf, '}')
}

func (f *Fault) appendPayload(buf []byte) []byte {
	buf = append(buf, `{"code":`...)
	buf = appendString(buf, string(f.Code))
	buf = append(buf, `,"message":`...)
	buf = appendString(buf, f.Message)
	if f.Field != "" || f.Detail != "" {
		buf = append(buf, `,"details":{"field":`...)
		buf = appendString(buf, f.Field)
		buf = append(buf, `,"error":`...)
		buf = appendString(buf, f.Detail)
		buf = append(buf, '}')
	}
	buf = appendOptional(buf, `,"inReplyTo":`, f.InReplyTo)
	return append(buf, '}')
}

func appendOptional(buf []byte, name, value string) []byte {
	if value == "" {
		return buf
	}
	return appendString(append(buf, name...), value)
}

// appendString writes s as a JSON string. Unlike encoding/json it leaves HTML
// characters alone; invalid UTF-8 becomes U+FFFD, since a text frame with
// anything else would make the client close the connection.
func appendString(buf []byte, s string) []byte {
	const digits = "0123456789abcdef"
	buf = append(buf, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				buf = append(append(buf, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			buf = append(buf, s[start:i]...)
			if c < ' ' {
				buf = append(buf, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			} else {
				buf = append(buf, '\\', c)
			}
			start = i + 1
		}
		i++
	}
	buf = append(buf, s[start:]...)
	return append(buf, '"')
}
