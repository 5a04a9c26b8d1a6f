package jet

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
)

// inbox takes the answers to many requests with one subscription, which lives as
// long as the connection: one for each request would be two more messages to the
// server, and more work for it than most requests. Its methods may be called at
// the same time.
type inbox struct {
	nc *nats.Conn
	// answered is called for each answer, one at a time. Its subject is what next
	// returned for the request. It does not block: all others wait meanwhile.
	answered func(*nats.Msg)

	mu     sync.Mutex
	prefix string // dot included; "" until there is a subscription
	last   uint64 // the number of the newest request
}

// next returns the subject under which to ask for the answers to a request.
func (in *inbox) next() (string, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.prefix == "" {
		prefix := in.nc.NewInbox() + "."
		if _, err := in.nc.Subscribe(prefix+"*", in.answered); err != nil {
			return "", fmt.Errorf("subscribe to answers: %w", err)
		}
		in.prefix = prefix
	}
	in.last++
	return in.prefix + strconv.FormatUint(in.last, 36), nil
}
