package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// errElsewhere is why a subscription is given up that works.
var errElsewhere = errors.New("what is published on Redis does not come on the subscription: it leads to another server, such as the master before a failover")

// echo tries whether what is published where Redis is now comes on the
// subscription. After a failover the old master goes on to confirm and to answer
// pings, while everybody else publishes on the new one: where nobody closes the
// connection, nothing else would tell. It goes over the channel of canaries, which
// nobody else hears.
type echo struct {
	id    string // tells this process's from those of another of the same name
	sent  atomic.Uint64
	heard atomic.Uint64
}

func newEcho() *echo { return &echo{id: "echo-" + rand.Text() + "-"} }

// take reports whether a message is an echo.
func (e *echo) take(body []byte) bool {
	number, ok := strings.CutPrefix(string(body), e.id)
	n, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return false
	}
	e.heard.Store(n)
	return true
}

// missed reports whether the last one that was published has not come.
func (e *echo) missed() bool { return e.heard.Load() < e.sent.Load() }

// tryEchoes gives the subscription up when several echoes in a row do not come on
// it. It returns when hard has ended.
func (s *source) tryEchoes(hard context.Context, cancel context.CancelCauseFunc, sub *redis.PubSub) {
	for missed := 0; lifecycle.Sleep(hard, s.timing.echo); {
		if !s.link.state().connected || s.mute() {
			missed = 0
			continue
		}
		if missed++; !s.echo.missed() {
			missed = 0
		}
		if missed == s.timing.echoes {
			s.echo.heard.Store(s.echo.sent.Load()) // the next subscription begins anew
			cancel(errElsewhere)
			_ = sub.Close()
			return
		}
		s.sendEcho(hard)
	}
}

// sendEcho publishes one, and on the same connection tries a write that changes
// nothing: a server that refuses that is a replica, from which messages go nowhere.
// The client closes the connection for it, and makes the next one anew.
func (s *source) sendEcho(ctx context.Context) {
	n := s.echo.sent.Load() + 1
	pipe := s.client.Pipeline()
	write := pipe.Expire(ctx, "daemon:heartbeat:"+protocol.ReservedPrefix, time.Second)
	publish := pipe.Publish(ctx, s.canary, s.echo.id+strconv.FormatUint(n, 10))
	_, _ = pipe.Exec(ctx) // each command has its own error
	readOnly := redis.HasErrorPrefix(write.Err(), "READONLY")
	if publish.Err() == nil {
		s.link.serves(!readOnly)
	}
	if publish.Err() == nil && !readOnly {
		s.echo.sent.Store(n)
	}
}
