package client

import (
	"strings"
	"sync"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// maxPendingAcks bounds what waits to be acknowledged while there is no
// connection. Over it the oldest is forgotten, which costs a repeat of that
// event and never the event itself.
const maxPendingAcks = 10 * protocol.MaxAckIDs

// acks collects what is to be acknowledged. Its methods may be called at once.
type acks struct {
	wake chan struct{}

	mu  sync.Mutex
	ids []string
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1)} }

func (a *acks) add(ids ...string) {
	if len(ids) == 0 {
		return
	}
	a.mu.Lock()
	a.ids = append(a.ids, ids...)
	if over := len(a.ids) - maxPendingAcks; over > 0 {
		a.ids = append([]string(nil), a.ids[over:]...)
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *acks) empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids) == 0
}

// take removes what fits into one ack message, and reports whether more was there.
func (a *acks) take() (ids []string, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids = fitting(a.ids)
	if a.ids = a.ids[len(ids):]; len(a.ids) == 0 {
		a.ids = nil
	}
	return ids, a.ids != nil
}

// idBytes is what the ids of one message may take: the gateway closes the connection
// over a frame that is too large, and nothing that stands in it is carried out.
const idBytes = protocol.DefaultMaxMessageBytes - protocol.MaxMetricsBytes - 1<<10

// fitting returns as many of the first ids as one message may name.
func fitting(ids []string) []string {
	n, room := 0, idBytes
	for n < min(len(ids), protocol.MaxAckIDs) {
		if room -= writtenBytes(ids[n]); room < 0 {
			break
		}
		n++
	}
	return ids[:n:n]
}

// writtenBytes is at least what an id takes in a list, as encoding/json writes it.
func writtenBytes(id string) int {
	const around, escaped = len(`"",`), len(`\u0000`)
	n := around
	for i := range len(id) {
		if c := id[i]; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			n += escaped
			continue
		}
		n++
	}
	return n
}
