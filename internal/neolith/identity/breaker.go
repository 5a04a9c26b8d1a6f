package identity

import "time"

// retryAfter is how long nobody waits for PostgreSQL after it has failed.
const retryAfter = time.Second

// breaker keeps lookups from waiting, each for itself, for a PostgreSQL that is
// away: after a failure one set of lookups a second finds out whether it is
// back, and all others are told at once. It is not safe for concurrent use.
type breaker struct {
	cause error // of the last failure; nil while all is well
	retry time.Time
}

// admit reports whether PostgreSQL may be asked now, or else why not. Who is
// admitted after a failure is the one that tries.
func (b *breaker) admit(now time.Time) error {
	if b.cause == nil {
		return nil
	}
	if now.Before(b.retry) {
		return b.cause
	}
	b.retry = now.Add(queryTimeout + retryAfter) // unless the outcome comes earlier
	return nil
}

// failed notes a failure, and reports whether it is the first.
func (b *breaker) failed(cause error, now time.Time) (first bool) {
	first = b.cause == nil
	b.cause, b.retry = cause, now.Add(retryAfter)
	return first
}

// succeeded notes an answer, and reports whether it is the first after a failure.
func (b *breaker) succeeded() (first bool) {
	first = b.cause != nil
	b.cause = nil
	return first
}
