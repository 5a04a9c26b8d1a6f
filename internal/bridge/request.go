package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// errEnded is why nothing is settled any more.
var errEnded = errors.New("the bridge has stopped publishing")

// request is what a job has that somebody waits for, who would bring it again.
type request struct {
	ctx    context.Context // ends when nobody waits any more
	bury   bool            // what is refused, in the dead letters
	silent silent
	answer chan settled // has room for it
}

// silent are the partitions that have not answered since whoever brings much began with
// it; nil notes nothing. It belongs to the pump. To wait for such a partition again and
// again would keep what is for others waiting as long.
type silent map[int]bool

func (s silent) note(partition int, err error) {
	if s != nil && errors.Is(err, eventlog.ErrUnavailable) {
		s[partition] = true
	}
}

// settled is what has become of a job: a publishing one is in the log, where ack
// says, a keeping one in DAEMON_UNRESOLVED, and a burying one is refused. err:
// it has come to nothing.
type settled struct {
	job job
	ack eventlog.Ack
	err error
}

// outcome is what has become of a message.
type outcome string

const (
	outcomeStored    outcome = "stored"
	outcomeDuplicate outcome = "duplicate"
	outcomeWaiting   outcome = "waiting" // for its addressee to be known
	outcomeRejected  outcome = "rejected"
)

// outcome is the same in a word.
func (s settled) outcome() outcome {
	switch {
	case s.job.kind == burying:
		return outcomeRejected
	case s.job.kind == keeping:
		return outcomeWaiting
	case s.ack.Duplicate:
		return outcomeDuplicate
	}
	return outcomeStored
}

// settle has a job done like one that was heard, under the same rule of who
// waits behind whom, and returns what has become of it. bury: what is refused
// is put into the dead letters. What fails is not tried again: an error means
// that it may be stored or not. Soon after ctx has ended there is an answer,
// too. It may be called from any goroutine; its callers bound how many requests
// there are at a time.
func (p *pump) settle(ctx context.Context, j job, bury bool) (settled, error) {
	return p.settleUnless(ctx, nil, j, bury)
}

// settleUnless is settle, but that a partition which has been silent is not asked.
func (p *pump) settleUnless(ctx context.Context, s silent, j job, bury bool) (settled, error) {
	if j.kind == burying && !bury {
		return settled{job: j}, nil
	}
	j.request = &request{ctx: ctx, bury: bury, silent: s, answer: make(chan settled, 1)}
	select {
	case p.submitted <- j:
	case <-ctx.Done():
		return settled{}, ctx.Err()
	case <-p.ended:
		return settled{}, errEnded
	}
	select {
	case s := <-j.request.answer:
		return s, s.err
	case <-p.ended:
		return settled{}, errEnded
	}
}

// takeListed stores an element of a list. What is rejected is not buried: it stays
// in its list, and problem says why. So does what the log takes for a duplicate and
// does not hold, because it was purged: it is stored once the duplicate window is
// over.
func (p *pump) takeListed(ctx context.Context, away silent, l list, element []byte) (o outcome, problem string, err error) {
	j := decodeListed(l, element, p.maxBytes)
	p.notice(j.event)
	s, err := p.settleUnless(ctx, away, p.book.address(j), false)
	if err == nil && s.outcome() == outcomeDuplicate && s.job.kind == publishing {
		purged, err := p.store.Purged(ctx, event.TokenOf(s.job.event.OrchestratorID), s.ack)
		if err != nil || purged {
			return outcomeRejected, "it was purged from the log within the duplicate window", err
		}
	}
	return s.outcome(), fmt.Sprintf("%s: %s", s.job.reason, s.job.detail), err
}

// submit takes a request in.
func (p *pump) submit(j job) {
	if j.kind == burying {
		p.rejected(j)
	}
	j.at = time.Now()
	p.number++
	p.requests.Add(j.lane(p.number), j, len(j.body))
}

// fail ends a request in flight that has come to nothing.
func (p *pump) fail(t ticket, err error) {
	p.giveBack(t.Value(), err)
	p.requests.Done(t)
}

// giveBack says that a request is not being done.
func (p *pump) giveBack(j job, err error) {
	p.leave(j)
	j.request.answer <- settled{err: err}
}
