package settings

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// mask stands for a secret wherever one would be printed.
const mask = "***"

// Secret is a value that is never printed: every way of formatting it yields a
// mask. Convert it with string(s) where it is used.
type Secret string

// String returns the mask, or "" if the secret is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString keeps %#v from printing the secret.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue keeps slog from printing the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps encoders from writing the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URL is the address of a server that may hold credentials. It prints with
// user, password and query masked. Convert it with string(u) where it is used.
type URL string

// String returns the URL without what may be secret in it.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	parsed, err := url.Parse(string(u))
	// An @ behind the host: a password has a / or a ? in it, and begins before the host
	// that was found; or there are several URLs in one.
	if err != nil || parsed.Host == "" || strings.Contains(parsed.Path+parsed.RawQuery, "@") {
		return mask
	}
	shown := parsed.Scheme + "://"
	if parsed.User != nil {
		shown += mask + "@"
	}
	shown += parsed.Host + parsed.EscapedPath()
	if parsed.RawQuery != "" || parsed.Fragment != "" {
		shown += "?" + mask
	}
	return shown
}

// UnmarshalText refuses a fragment, which means nothing here: whoever writes one has
// a # in the password, before which everything would be taken for host and port.
func (u *URL) UnmarshalText(text []byte) error {
	if bytes.ContainsRune(text, '#') {
		return errors.New("has a #")
	}
	*u = URL(text)
	return nil
}

// GoString keeps %#v from printing credentials.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// LogValue keeps slog from printing credentials.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText keeps encoders from writing credentials.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// ByteSize is a number of bytes, written as "262144", "256KiB" or "10GiB".
type ByteSize int64

// The units of ByteSize.
const (
	KiB ByteSize = 1 << 10
	MiB ByteSize = 1 << 20
	GiB ByteSize = 1 << 30
	TiB ByteSize = 1 << 40
)

var byteUnits = []struct {
	suffix string
	size   ByteSize
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// UnmarshalText reads a whole number with an optional unit.
func (b *ByteSize) UnmarshalText(text []byte) error {
	digits, unit := string(text), ByteSize(1)
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, unit = strings.TrimSpace(number), u.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(unit) {
		return fmt.Errorf("%q is not a size in bytes", text)
	}
	*b = ByteSize(n) * unit
	return nil
}

// MarshalText writes what String returns.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String returns the size in the largest unit that divides it.
func (b ByteSize) String() string {
	for _, u := range byteUnits {
		if u.size > 1 && b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Milliseconds is a duration that may also be written as a plain number of
// milliseconds, as the old WS_* names were.
type Milliseconds time.Duration

// Duration returns m as a time.Duration.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) }

// UnmarshalText reads "30s" or "30000".
func (m *Milliseconds) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		if n > math.MaxInt64/int64(time.Millisecond) || n < math.MinInt64/int64(time.Millisecond) {
			return fmt.Errorf("%q is too long", text)
		}
		*m = Milliseconds(time.Duration(n) * time.Millisecond)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration", text)
	}
	*m = Milliseconds(d)
	return nil
}

// MarshalText writes what String returns.
func (m Milliseconds) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// String returns the duration as "30s".
func (m Milliseconds) String() string { return formatDuration(time.Duration(m)) }

// formatDuration is Duration.String without the zero minutes and seconds that
// it appends to whole hours and minutes.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
