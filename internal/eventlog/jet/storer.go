package jet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// storer has any number of messages on their way into streams. They share one
// subscription for the answers and one timer, so that none needs a goroutine that
// waits; that would be thousands at once where a server is slow, and answers
// would have to queue behind them.
//
//	StoreAsync ─add─▶ pending ──answer, time over, context, outage──▶ done
//	                   │   ▲
//	                   └───┘ sweep publishes again: no answer yet, or no leader
//
// Whoever takes a message out of pending calls its done, and nobody else does.
// All publishes of a message ask for the answer under the same subject: whichever
// is answered first says what there is to say.
type storer struct {
	nc    *nats.Conn
	inbox inbox

	mu       sync.Mutex
	pending  map[string]*storing
	sweeping bool // a sweep is due
}

// storing is a message on its way.
type storing struct {
	ctx   context.Context // the caller's
	msg   *nats.Msg       // Reply is the key in pending
	done  func(*jetstream.PubAck, error)
	until time.Time

	// Guarded by the storer's mu.
	patience time.Duration // with the try under way
	tryEnds  time.Time     // when it is given up
	again    time.Time     // when the message is published again
	polls    int           // answers that there is no leader, in this try
}

func newStorer(nc *nats.Conn) *storer {
	st := &storer{nc: nc, pending: map[string]*storing{}}
	st.inbox = inbox{nc: nc, answered: st.answered}
	return st
}

// add makes a message pending.
func (st *storer) add(s *storing) (err error) {
	if s.msg.Reply, err = st.inbox.next(); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.pending[s.msg.Reply] = s
	st.sweepSoonLocked()
	return nil
}

// publish may be called by the caller of StoreAsync, in whose goroutine done
// must not be called.
func (st *storer) publish(s *storing) {
	if err := st.nc.PublishMsg(s.msg); err != nil {
		go st.end(s.msg.Reply, nil, err)
	}
}

func (st *storer) answered(answer *nats.Msg) {
	if len(answer.Data) == 0 && lastHeader(answer.Header, headerStatus) == statusNoResponders {
		st.leaderless(answer.Subject)
		return
	}
	ack, err := readPubAnswer(answer.Data)
	st.end(answer.Subject, ack, err)
}

// leaderless has a message published again soon, for as long as that may help.
func (st *storer) leaderless(key string) {
	st.mu.Lock()
	s := st.pending[key]
	over := false
	if s != nil {
		s.polls++
		s.again = time.Now().Add(electionPoll)
		over = s.polls > electionPolls
	}
	st.mu.Unlock()
	if over {
		st.end(key, nil, jetstream.ErrNoStreamResponse)
	}
}

// sweepSoonLocked has the next sweep done while anything is pending. st.mu is
// held.
func (st *storer) sweepSoonLocked() {
	if !st.sweeping && len(st.pending) > 0 {
		st.sweeping = true
		time.AfterFunc(electionPoll, st.sweep)
	}
}

// sweep ends what is to wait no longer, and publishes again what has waited
// enough for an answer, or for a leader.
func (st *storer) sweep() {
	now := time.Now()
	var over, again []*storing
	st.mu.Lock()
	for _, s := range st.pending {
		switch {
		case s.ctx.Err() != nil || !now.Before(s.until):
			over = append(over, s)
		case !now.Before(s.again):
			again = append(again, s)
			s.nextTryLocked(now)
		}
	}
	st.mu.Unlock()
	for _, s := range over {
		err := s.ctx.Err()
		if err == nil {
			err = context.DeadlineExceeded
		}
		st.end(s.msg.Reply, nil, err)
	}
	for _, s := range again {
		st.publish(s) // may have been answered this moment, and is stored once then
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sweeping = false
	st.sweepSoonLocked()
}

// nextTryLocked begins another try, unless this one only waits for a leader.
// The storer's mu is held.
func (s *storing) nextTryLocked(now time.Time) {
	if now.Before(s.tryEnds) {
		s.again = s.tryEnds
		return
	}
	s.patience += s.patience / 2
	s.tryEnds = now.Add(s.patience)
	s.again, s.polls = s.tryEnds, 0
}

// lost ends all that is pending: the answers will not come.
func (st *storer) lost() {
	st.mu.Lock()
	keys := make([]string, 0, len(st.pending))
	for key := range st.pending {
		keys = append(keys, key)
	}
	st.mu.Unlock()
	for _, key := range keys {
		st.end(key, nil, fmt.Errorf("%w: %w", ErrUnavailable, errConnectionLost))
	}
}

// end says what has come of a message, if it is still pending.
func (st *storer) end(key string, ack *jetstream.PubAck, err error) {
	st.mu.Lock()
	s := st.pending[key]
	delete(st.pending, key)
	st.mu.Unlock()
	if s != nil {
		s.done(ack, Classify(err))
	}
}
