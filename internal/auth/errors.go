package auth

import (
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Reason is why a daemon was refused: the closed set of label values of the
// metric of failed authentications.
type Reason string

// The reasons for a refusal. Those after ReasonWrongAudience are not found in
// the token alone.
const (
	ReasonMalformed          Reason = "malformed"
	ReasonWrongAlgorithm     Reason = "wrong_algorithm"
	ReasonBadSignature       Reason = "bad_signature"
	ReasonUnknownKey         Reason = "unknown_key"
	ReasonKeysUnavailable    Reason = "keys_unavailable"
	ReasonExpired            Reason = "expired"
	ReasonNotYetValid        Reason = "not_yet_valid"
	ReasonMissingClaim       Reason = "missing_claim"
	ReasonInvalidClaim       Reason = "invalid_claim"
	ReasonInvalidTime        Reason = "invalid_time"
	ReasonLifetime           Reason = "lifetime"
	ReasonWrongType          Reason = "wrong_type"
	ReasonWrongIssuer        Reason = "wrong_issuer"
	ReasonWrongAudience      Reason = "wrong_audience"
	ReasonOtherOrchestrator  Reason = "other_orchestrator"
	ReasonOtherDaemon        Reason = "other_daemon"
	ReasonOtherSession       Reason = "other_session"
	ReasonUnknownIdentity    Reason = "unknown_identity"
	ReasonIdentityUnverified Reason = "identity_unverified"
	ReasonRevoked            Reason = "revoked"
	ReasonWrongAddress       Reason = "wrong_address"
	ReasonTimeout            Reason = "timeout"
)

// messages is what each reason is to a daemon's author. Nothing in them comes
// from the token.
var messages = map[Reason]string{
	ReasonMalformed:          "the access token is not a JSON Web Token",
	ReasonWrongAlgorithm:     "the access token is not signed with an algorithm of this gateway's keys",
	ReasonBadSignature:       "the access token's signature is wrong",
	ReasonUnknownKey:         "the access token is signed with a key that this gateway does not know yet",
	ReasonKeysUnavailable:    "the keys of access tokens cannot be read at the moment",
	ReasonExpired:            "the access token has expired",
	ReasonNotYetValid:        "the access token is not valid yet",
	ReasonMissingClaim:       "the access token lacks a required claim",
	ReasonInvalidClaim:       "the access token has a claim of the wrong form",
	ReasonInvalidTime:        "the access token's exp, nbf or iat is no time from 1970 to 9999: expected seconds, not milliseconds",
	ReasonLifetime:           "the access token is valid for longer than this gateway accepts",
	ReasonWrongType:          "the token is not an access token",
	ReasonWrongIssuer:        "the access token comes from another issuer",
	ReasonWrongAudience:      "the access token is for another audience",
	ReasonOtherOrchestrator:  "the access token is for another orchestrator",
	ReasonOtherDaemon:        "the access token is for another daemon",
	ReasonOtherSession:       "a session can only be extended for its own orchestrator and daemon",
	ReasonUnknownIdentity:    "the orchestrator does not exist",
	ReasonIdentityUnverified: "the orchestrator cannot be looked up at the moment",
	ReasonRevoked:            "the access token has been revoked",
	ReasonWrongAddress:       "the access token may not be used from this address",
	ReasonTimeout:            "no authentication arrived in time",
}

// Reasons returns every reason, sorted, so that each has its series from the start.
func Reasons() []Reason {
	return slices.Sorted(maps.Keys(messages))
}

// Error is a refusal. Its text is safe to log and to send to the daemon: it
// holds nothing of the token.
type Error struct {
	Reason Reason
	// Wait is when it may be worth to try again, where that is known.
	Wait time.Duration
}

// passing are the faults that end by themselves, and so without anybody who
// gives the daemon another token: clocks, and what this edge does not know yet.
var passing = []Reason{ReasonUnknownKey, ReasonKeysUnavailable, ReasonNotYetValid, ReasonIdentityUnverified}

// worstClock is how wrong a clock may be that is still being set. A token that
// begins later than that was made so.
const worstClock = 10 * time.Minute

// Passes reports whether the same token may be accepted soon. A daemon is then
// told to come back, and not with a code after which it stays away.
func (e *Error) Passes() bool { return slices.Contains(passing, e.Reason) && e.Wait <= worstClock }

// Code returns what the daemon is told in auth_error.
func (e *Error) Code() protocol.AuthErrorCode {
	if e.Reason == ReasonExpired {
		return protocol.AuthTokenExpired
	}
	return protocol.AuthFailed
}

// Error returns the reason as a sentence.
func (e *Error) Error() string { return messages[e.Reason] }

func refuse(reason Reason) error { return &Error{Reason: reason} }
