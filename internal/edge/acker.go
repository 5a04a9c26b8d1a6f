package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/internal/share"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// ackRequest names events that a daemon has acknowledged by HTTP.
type ackRequest struct {
	Orchestrator event.Token `json:"orchestrator"`
	// Daemon is empty if the token names none: that means all of them.
	Daemon   protocol.DaemonID `json:"daemon,omitempty"`
	EventIDs []string          `json:"eventIds"`
}

// ackAnswer says what came of it on one edge.
type ackAnswer struct {
	// Running: the daemon has a connection there that is being delivered to.
	Running bool `json:"running"`
	// Acknowledged are the ids that were waiting for it.
	Acknowledged []string `json:"acknowledged,omitempty"`
}

const (
	// ackTimeout bounds what the other edges may take.
	ackTimeout = 3 * time.Second
	// settleBytes is about how much is read at a time to find those acknowledged.
	settleBytes = 1 << 20
)

// holders is what an acker needs of the directory.
type holders interface {
	AppendEdges(dst []string, token event.Token) []string
}

// acker carries acknowledgements by HTTP to where the daemon is connected, on
// whichever edge, or else into its cursor. What is lost on the way costs a
// repeat: the client is told, or the event is sent again.
type acker struct {
	peers     peers[ackRequest, ackAnswer]
	hub       *hub
	directory holders
	log       *eventlog.Log
	cursors   *cursor.Store
	alive     func() func(edge string) bool // which edges the directory shows
	searches  *searches
	slots     *share.Pool[event.Partition] // a place for each request that asks the log
	metrics   *metrics
	panics    *rescue.Notes
}

var (
	errPanicked = errors.New("the request has panicked")
	errBusy     = errors.New("this edge has as many requests as it can handle")
)

// askLog takes a place to ask a partition of the log, which the caller gives back, or
// fails with errBusy. One that does not answer keeps its places for seconds, and must
// leave some to the others, however many such there are.
func (a *acker) askLog(p event.Partition) (giveBack func(), err error) {
	if !a.slots.Take(p, 1) {
		return nil, errBusy
	}
	return func() { a.slots.Give(p, 1) }, nil
}

// acknowledge acknowledges events for the viewer, and returns how many distinct
// ones had not been. An error means that it may have happened in part, and is to
// be repeated; a laterError says when.
func (a *acker) acknowledge(ctx context.Context, v httpevents.Viewer, ids []string) (int, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	answer, err := a.tell(ctx, ackRequest{Orchestrator: v.Orchestrator, Daemon: v.Daemon, EventIDs: ids})
	if err != nil {
		return 0, err
	}
	if answer.Running {
		return len(answer.Acknowledged), nil
	}
	settled, err := a.settle(ctx, v, ids)
	if err != nil {
		return 0, err
	}
	a.metrics.event(outcomeAcked, "acked", settled)
	return settled, nil
}

// tell gives the acks to all edges that claim the orchestrator, side by side.
func (a *acker) tell(ctx context.Context, r ackRequest) (ackAnswer, error) {
	edges := a.directory.AppendEdges(nil, r.Orchestrator)
	answers := make([]ackAnswer, len(edges))
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	var all errgroup.Group
	for i, name := range edges {
		all.Go(func() (err error) {
			defer func() {
				if value := recover(); value != nil {
					a.panics.Panicked(partAck, value, "orchestrator", r.Orchestrator, "daemon", r.Daemon, "edge", name)
					err = errPanicked
				}
			}()
			if answers[i], err = a.peers.ask(ctx, name, r); err != nil {
				return fmt.Errorf("tell edge %s of acks: %w", name, err)
			}
			return nil
		})
	}
	err := all.Wait()
	return together(answers), err
}

// together joins the answers of several edges.
func together(answers []ackAnswer) (all ackAnswer) {
	seen := make(map[string]bool)
	for _, answer := range answers {
		all.Running = all.Running || answer.Running
		for _, id := range answer.Acknowledged {
			if !seen[id] {
				seen[id] = true
				all.Acknowledged = append(all.Acknowledged, id)
			}
		}
	}
	return all
}

// give hands the acks to the daemon's connections on this edge.
func (a *acker) give(_ context.Context, r ackRequest) ackAnswer {
	var answers []ackAnswer
	for _, c := range a.hub.connections(r.Orchestrator) {
		if r.Daemon == "" || r.Daemon == c.daemon {
			answers = append(answers, c.acknowledge(r.EventIDs))
		}
	}
	return together(answers)
}

// settle writes the acks of a daemon that is not delivered to into its cursor.
func (a *acker) settle(ctx context.Context, v httpevents.Viewer, ids []string) (settled int, err error) {
	p := a.log.Partition(v.Orchestrator)
	epoch := a.log.Epoch(p)
	one, err := a.searches.begin(ctx, v.Orchestrator, epoch)
	if err != nil {
		return 0, err
	}
	read := 0
	defer func() { a.searches.end(one, read) }()
	// Who waits for the turn holds nothing that others need.
	giveBack, err := a.askLog(p)
	if err != nil {
		return 0, err
	}
	defer giveBack()
	found, read, err := a.find(ctx, p, v, ids, &one.heads)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	if a.log.Epoch(p) != epoch {
		return 0, fmt.Errorf("settle acks: the epoch of partition %d has changed meanwhile", p)
	}
	req := cursor.StartRequest{
		Daemon: v.Daemon, Alive: a.alive(), Epoch: epoch,
		Now: time.Now(), MaxAge: a.log.Config().EventRetention,
	}
	var holding []string
	err = a.cursors.Update(ctx, v.Orchestrator, func(rec cursor.Record) (next cursor.Record, changed bool) {
		next, settled = cursor.Settle(rec, req, found)
		holding = rec.Holding(v.Daemon)
		return next, settled > 0
	})
	a.tellUnseen(holding, ackRequest{Orchestrator: v.Orchestrator, Daemon: v.Daemon, EventIDs: ids})
	return settled, err
}

// tellUnseen gives the acks to edges that the cursor names and the directory does not
// show, as while the gossip is split: a connection there would send the events again and
// again, and at last to the dead letters. One that does not get this costs a repeat.
func (a *acker) tellUnseen(holding []string, r ackRequest) {
	seen := a.directory.AppendEdges(nil, r.Orchestrator)
	for _, name := range holding {
		if !slices.Contains(seen, name) {
			_ = a.peers.tell(name, r)
		}
	}
}

// find returns where the events with these ids stand, and how many bytes it has
// read. The orchestrator's store may be large: only what may be one of them is read,
// if the log can be asked for heads alone, and else no more than a request may (see
// searchBytes).
func (a *acker) find(ctx context.Context, p event.Partition, v httpevents.Viewer, ids []string, heads *httpevents.Heads) (_ []cursor.Range, read int, _ error) {
	allowed := searchBytes + len(ids)*v.MaxEventBytes
	more, err := a.log.EachHead(ctx, p, v.Orchestrator, heads.Next(), allowed, func(h eventlog.Head) {
		heads.Add(h.Sequence, h.MessageID, int(a.log.Config().EventsPerOrchestrator))
		read += h.Bytes
	})
	if err != nil {
		return nil, read, err
	}
	if more {
		return nil, read, errMuch
	}
	found := httpevents.NewFound(v, ids, heads)
	for allowed += read; ; {
		from, events := found.Next()
		if events == 0 {
			return found.Ranges, read, nil
		}
		if read >= allowed {
			return nil, read, errMuch
		}
		page, err := a.log.Read(ctx, p, v.Orchestrator, from, events, settleBytes)
		if err != nil {
			return nil, read, err
		}
		for _, m := range page.Messages {
			read += len(m.Body)
		}
		found.Add(page.Messages)
	}
}

// errMuch: what was read is remembered, and the rest is for the next request.
var errMuch = &laterError{"the orchestrator has much that had to be looked through", time.Second}
