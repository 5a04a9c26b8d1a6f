// Package jet asks JetStream in the way that the log has to: each request has a
// bound and ends with the connection, is repeated where servers that elect a
// leader leave it unanswered, and what comes back is believed only where it is
// whole. It knows streams, subjects and sequences, and nothing of what they
// mean: that is for its users, package eventlog and package revocation.
package jet

import (
	"log/slog"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// concurrentLast and concurrentReads bound the answers under way on the
	// connection, which together stay far from where the server cuts it.
	concurrentLast  = 8
	concurrentReads = 8
)

// Client is JetStream over one connection. Its methods may be called at the same
// time.
type Client struct {
	NC *nats.Conn
	JS jetstream.JetStream

	api    string // what the subjects of JetStream's API start with
	rights Rights
	logger *slog.Logger

	lasts *places
	reads *places

	outages  *outages
	absences *absences
	storer   *storer
	gets     *gets
}

// Rights are what a client may do with streams and buckets beside using them.
type Rights int

// The rights, each of which includes those before it.
const (
	// Use nothing but what others have made.
	Use Rights = iota
	// Create what is missing.
	Create
	// Change what exists with other settings.
	Change
)

// New returns a client that lives as long as the connection of js.
func New(js jetstream.JetStream, rights Rights, logger *slog.Logger) *Client {
	storer := newStorer(js.Conn())
	return &Client{
		NC:       js.Conn(),
		JS:       js,
		api:      API(js),
		rights:   rights,
		logger:   logger,
		lasts:    newPlaces(concurrentLast),
		reads:    newPlaces(concurrentReads),
		outages:  watchOutages(js.Conn(), storer.lost),
		absences: &absences{list: map[string]absence{}},
		storer:   storer,
		gets:     newGets(js.Conn()),
	}
}

// Rights returns what the client may do.
func (c *Client) Rights() Rights { return c.rights }

// API is what the subjects of JetStream's API start with, dot included.
func API(js jetstream.JetStream) string {
	switch opts := js.Options(); {
	case opts.Domain != "":
		return "$JS." + opts.Domain + ".API."
	case opts.APIPrefix != "":
		return strings.TrimSuffix(opts.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// KeySubject is where a key of a bucket is written. Leaf nodes keep $KV to
// themselves, as they do $JS.API: what is for a domain begins with its prefix, and
// is stored without.
func (c *Client) KeySubject(bucket, key string) string {
	subject := "$KV." + bucket + "." + key
	if c.api == jetstream.DefaultAPIPrefix {
		return subject
	}
	return c.api + subject
}
