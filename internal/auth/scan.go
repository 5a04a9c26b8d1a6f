package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/neolith/daemon-gateway/internal/jsonscan"
)

// Usual tokens are read and verified without reflection. What package jsonscan
// doubts, what is refused, and what is only unusual, is left to the JWT library:
// so the only mistake that can be made here is to accept what it refuses, or to
// read something else. A fuzz test compares the two.

// signer computes signatures under one secret.
type signer struct{ states sync.Pool }

func newSigner(secret []byte) *signer {
	return &signer{states: sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
}

// signed reports whether the signature is that of the text.
func (s *signer) signed(text, signature []byte) bool {
	h := s.states.Get().(hash.Hash)
	defer s.states.Put(h)
	h.Reset()
	_, _ = h.Write(text) // never fails
	var sum [sha256.Size]byte
	return hmac.Equal(h.Sum(sum[:0]), signature)
}

// strictBase64 takes one text for each value, but for line breaks in it.
var strictBase64 = base64.RawURLEncoding.Strict()

// scan returns the claims of a usual token whose signature and times are right.
func (v *Verifier) scan(token string, keys *Keys, now time.Time) (c claims, ok bool) {
	buf := make([]byte, 0, 2*len(token)) // the token, and behind it what its parts say
	buf = append(buf, token...)
	head, rest, _ := bytes.Cut(buf, []byte("."))
	body, foot, _ := bytes.Cut(rest, []byte("."))
	var parts [3][]byte
	for i, part := range [][]byte{head, body, foot} {
		at := len(buf)
		var err error
		if buf, err = strictBase64.AppendDecode(buf, part); err != nil {
			return claims{}, false
		}
		parts[i] = buf[at:]
	}
	header, payload, signature := parts[0], parts[1], parts[2]
	text := buf[:min(len(head)+len(".")+len(body), len(token))]
	if !usualHeader(header) || !slices.ContainsFunc(keys.signers, func(s *signer) bool { return s.signed(text, signature) }) {
		return claims{}, false
	}
	if !c.scan(payload) || c.untimely(now, v.cfg.JWTMaxLifetime) != nil {
		return claims{}, false
	}
	return c, true
}

// usualHeader reports whether a header names our algorithm and nothing that may
// have to be understood.
func usualHeader(header []byte) bool {
	algorithms := 0
	fields := jsonscan.Object(header)
	for {
		name, value, more := fields.Next()
		if !more {
			return fields.Whole() && algorithms == 1
		}
		text, isText := jsonscan.Text(value)
		switch {
		case !isText:
			return false
		case string(name) == "alg" && string(text) == jwt.SigningMethodHS256.Name:
			algorithms++
		case string(name) != "typ" && string(name) != "kid":
			return false
		}
	}
}

// claimNames are the names of claims, without regard to case, as encoding/json
// takes them.
var claimNames = []string{
	"iss", "sub", "jti", "orchestratorId", "daemonId", "type", "workspaceId", "organizationId",
	"aud", "scopes", "exp", "nbf", "iat",
}

// unusualClaim is one that only the library reads.
const unusualClaim = "allowedCidrs"

// scan reads the claims of a usual token.
func (c *claims) scan(payload []byte) bool {
	texts := []*string{&c.Issuer, &c.Subject, &c.ID, &c.OrchestratorID, &c.DaemonID, &c.Type, &c.WorkspaceID, &c.OrganizationID}
	lists := []*[]string{(*[]string)(&c.Audience), &c.Scopes}
	times := []**instant{&c.ExpiresAt, &c.NotBefore, &c.IssuedAt}
	var seen uint
	fields := jsonscan.Object(payload)
	for {
		name, value, more := fields.Next()
		if !more {
			return fields.Whole() && utf8.Valid(payload)
		}
		i := slices.IndexFunc(claimNames, func(known string) bool { return string(name) == known })
		if i < 0 {
			if slices.ContainsFunc(claimNames, func(known string) bool { return bytes.EqualFold(name, []byte(known)) }) ||
				bytes.EqualFold(name, []byte(unusualClaim)) {
				return false
			}
			continue
		}
		if seen&(1<<i) != 0 {
			return false // the last one counts
		}
		seen |= 1 << i
		ok := false
		switch j := i - len(texts); {
		case j < 0:
			*texts[i], ok = textOf(value)
		case j == 0 && value[0] == '"': // an audience may stand alone
			c.Audience = make([]string, 1)
			c.Audience[0], ok = textOf(value)
		case j < len(lists):
			*lists[j], ok = textsOf(value)
		default:
			*times[j-len(lists)], ok = timeOf(value)
		}
		if !ok {
			return false
		}
	}
}

func textOf(value []byte) (string, bool) {
	text, ok := jsonscan.Text(value)
	return string(text), ok
}

func textsOf(value []byte) ([]string, bool) {
	texts := []string{}
	elements := jsonscan.Array(value)
	for {
		_, element, more := elements.Next()
		if !more {
			return texts, elements.Whole()
		}
		text, ok := textOf(element)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
}

// timeOf reads whole seconds.
func timeOf(value []byte) (*instant, bool) {
	seconds, ok := jsonscan.Uint(value)
	if !ok || seconds >= lastSecond {
		return nil, false
	}
	return &instant{at: time.Unix(int64(seconds), 0)}, true
}
