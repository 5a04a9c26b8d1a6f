package natsconn

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// refusal is what the server has told this connection's user that it may not do.
type refusal struct {
	text string
	// answers: the user may not subscribe where it is answered, so that nothing
	// that asks for an answer can work.
	answers bool
}

// refusedRetry is after how long a connection that is not answered is made anew.
const refusedRetry = 5 * time.Second

// refusedSubject finds the subject in the server's words, such as:
// Permissions Violation for Subscription to "_INBOX.x.*".
var refusedSubject = regexp.MustCompile(`(?i)permissions violation for (\w+) to "([^"]+)"`)

// noteRefusal remembers for /readyz that the server has refused something: a
// request that it refuses is never answered, and looks like one that was lost.
func (c *Conn) noteRefusal(nc *nats.Conn, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	found := refusedSubject.FindStringSubmatch(err.Error())
	if found == nil {
		return
	}
	act, subject := strings.ToLower(found[1]), found[2]
	before := c.refused.Load()
	switch answers := act == "subscription" && strings.HasPrefix(subject, c.inbox+"."); {
	case answers && (before == nil || !before.answers):
		c.refused.Store(&refusal{answers: true, text: fmt.Sprintf(
			"where this node's user may not subscribe to %s.>, on which it is answered: permit that, or set NATS_INBOX_PREFIX to what is permitted", c.inbox)})
		// The server does not look at the subscription again when it is permitted.
		time.AfterFunc(refusedRetry, func() { _ = nc.ForceReconnect() })
	case before == nil:
		c.refused.Store(&refusal{text: fmt.Sprintf("where this node's user lacks a permission: %s to %s", act, subject)})
	}
}

// Tolerate has the node do without a permission for subjects that begin like this:
// what the server refuses there is told once, in these words, and is no reason not
// to be ready. It is called before anything is done there.
func (c *Conn) Tolerate(words string, prefixes ...string) {
	c.tolerated.mu.Lock()
	defer c.tolerated.mu.Unlock()
	for _, prefix := range prefixes {
		c.tolerated.words[prefix] = words
	}
}

// tolerated is what a node does without, and what it has said of that.
type tolerated struct {
	mu    sync.Mutex
	words map[string]string // by the beginning of the subjects
	told  map[string]bool   // by the words
}

// tolerates reports whether an error is a refusal that the node works without.
func (c *Conn) tolerates(err error) bool {
	found := refusedSubject.FindStringSubmatch(err.Error())
	if found == nil {
		return false
	}
	c.tolerated.mu.Lock()
	defer c.tolerated.mu.Unlock()
	for prefix, words := range c.tolerated.words {
		if !strings.HasPrefix(found[2], prefix) {
			continue
		}
		if !c.tolerated.told[words] {
			c.tolerated.told[words] = true
			c.logger.Info(words, "subject", found[2])
		}
		return true
	}
	return false
}
