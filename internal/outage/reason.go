package outage

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// What happens to connections, in an operator's words.
const (
	refused = "connection refused: nothing listens there"
	silent  = "no answer in time"
	closed  = "it closed the connection"
	noRoute = "there is no way to it"
)

// Reason says of an error what happened to a connection. What it does not know it
// repeats, on one line, without the address of this end: that differs with each try.
func Reason(err error) string {
	var (
		name    *net.DNSError
		network net.Error
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return "unknown name " + name.Name
	case errors.As(err, &name):
		return "the name " + name.Name + " cannot be looked up: " + name.Err
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return noRoute
	case errors.As(err, &verify):
		return "TLS: its certificate is not accepted: " + verify.Err.Error()
	case errors.As(err, &record):
		return "TLS: it does not speak TLS"
	case errors.As(err, &alert):
		return "TLS: it says: " + alert.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return silent
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return closed
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return fromText(OneLine(err.Error()))
}

// fromText is for libraries that put errors into others as text.
func fromText(text string) string {
	for _, known := range []struct{ part, reason string }{
		{"connection refused", refused}, {"i/o timeout", silent}, {"no route to host", noRoute}, {"connection reset by peer", closed},
	} {
		if strings.Contains(text, known.part) {
			return known.reason
		}
	}
	return text
}

// OneLine joins the lines of an error's text.
func OneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
