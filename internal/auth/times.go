package auth

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// lastSecond is where the year 10000 begins. Milliseconds of our time lie beyond
// it, as does what no time.Time could hold.
const lastSecond = 253402300800

// instant is a time in a token: seconds since 1970, which may have a fraction. One
// that lies anywhere else is kept as such, so that nothing is said of it before
// the signature is known to be right.
type instant struct {
	at      time.Time
	invalid bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *instant) UnmarshalJSON(text []byte) error {
	var number json.Number
	if err := json.Unmarshal(text, &number); err != nil {
		return err
	}
	// What is out of the range of a float is infinite then.
	seconds, _ := number.Float64()
	if !(seconds >= 0 && seconds < lastSecond) {
		i.invalid = true
		return nil
	}
	whole, fraction := math.Modf(seconds)
	i.at = time.Unix(int64(whole), int64(fraction*1e9))
	return nil
}

// MarshalJSON implements json.Marshaler.
func (i *instant) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, i.at.Unix(), 10), nil
}

// untimely returns why these claims do not hold at the moment, or "".
func (c *claims) untimely(now time.Time, longest time.Duration) *Error {
	for _, i := range []*instant{c.ExpiresAt, c.NotBefore, c.IssuedAt} {
		if i != nil && i.invalid {
			return &Error{Reason: ReasonInvalidTime}
		}
	}
	if c.ExpiresAt == nil {
		return &Error{Reason: ReasonMissingClaim}
	}
	if !now.Before(c.ExpiresAt.at.Add(Leeway)) {
		return &Error{Reason: ReasonExpired}
	}
	for _, i := range []*instant{c.NotBefore, c.IssuedAt} {
		if i != nil && now.Before(i.at.Add(-Leeway)) {
			return &Error{Reason: ReasonNotYetValid, Wait: i.at.Sub(now)}
		}
	}
	if longest > 0 && c.lifetime(now) > longest {
		return &Error{Reason: ReasonLifetime}
	}
	return nil
}

// lifetime is how long the token was made for, or where it does not say when it
// was made, is still good for. What clocks disagree about does not count.
func (c *claims) lifetime(now time.Time) time.Duration {
	if c.IssuedAt != nil {
		return c.ExpiresAt.at.Sub(c.IssuedAt.at)
	}
	return c.ExpiresAt.at.Sub(now) - Leeway
}
