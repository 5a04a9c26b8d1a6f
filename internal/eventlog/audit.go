package eventlog

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// auditInterval is how often a node looks at each partition.
	auditInterval = time.Minute
	// auditLooks is how often a difference must be seen, auditPause apart, before
	// it is believed: a replica may be a moment late with what was removed.
	auditLooks = 3
	auditPause = 2 * time.Second
)

// Auditor compares what the servers of NATS have of each partition. They do not
// do so themselves: one that has lost a file, or a bit of one, goes on without
// what stood there. Its replica answers reads as if those events had never been,
// and may come to lead. So each node compares the leader's holding with that of
// the replica that answers the node, and with what the leader held before.
//
// Nobody can say what was passed over meanwhile: when the replicas agree again,
// the epoch is raised, and daemons are sent all that is retained.
type Auditor struct {
	log     *Log
	before  []jet.Holding // the leader's, at the last look
	differs []Epoch       // in which a difference was seen last; empty: there is none
}

// NewAuditor returns the auditor of a node. Its methods must not be called at the
// same time.
func NewAuditor(log *Log) *Auditor {
	n := log.cfg.Partitions
	return &Auditor{log: log, before: make([]jet.Holding, n), differs: make([]Epoch, n)}
}

// Run looks at one partition after the other, until ctx ends.
func (a *Auditor) Run(ctx context.Context) error {
	next := event.Partition(0)
	lifecycle.Every(ctx, auditInterval/time.Duration(len(a.before)), func(time.Time) {
		if _, err := a.Look(ctx, next); err != nil {
			a.log.logger.Debug("the replicas of a partition cannot be compared now", "partition", next, "error", err)
		}
		next = (next + 1) % event.Partition(len(a.before))
	})
	return nil
}

// Finding is what is wrong with a partition; the zero Finding: nothing.
type Finding struct {
	// Different is how many events only one of the two has: the leader, or the
	// replica that answers this node.
	Different uint64
	// Vanished is how many have gone from what the leader had at the last look.
	Vanished uint64
}

// Look compares the replicas of one partition, says in log and metrics what it
// finds, and raises the epoch of one whose replicas agree again.
func (a *Auditor) Look(ctx context.Context, p event.Partition) (Finding, error) {
	var leader, replica jet.Holding
	for n := range auditLooks {
		if n > 0 && !lifecycle.Sleep(ctx, auditPause) {
			return Finding{}, context.Cause(ctx)
		}
		start := time.Now()
		var err error
		leader, replica, err = a.log.jet.Holdings(ctx, event.StreamName(p), a.log.cfg.EventRetention)
		a.log.metrics.observe(opAudit, start, err)
		if err != nil {
			return Finding{}, fmt.Errorf("what is held of partition %d: %w", p, err)
		}
		if difference(leader, replica) == 0 {
			break
		}
	}
	found := Finding{Different: difference(leader, replica), Vanished: a.compareWithBefore(p, leader)}
	if found.Different > 0 && a.differs[p] == "" {
		a.log.logger.Error("two NATS servers do not have the same events: a file of one of them is damaged",
			"partition", p, "events", found.Different, "leader_has", leader.Messages, "replica_has", replica.Messages)
	}
	return found, a.noteDifference(ctx, p, found.Different)
}

// difference returns how many events of one holding another lacks or has beyond
// what explains it: each event that only one of them has yet may have removed an
// older one of its orchestrator.
func difference(leader, replica jet.Holding) uint64 {
	from := min(leader.First.Sequence, replica.First.Sequence)
	explained := distance(leader.Last, replica.Last) + 2*replica.Slack
	return less(distance(leader.Removed(from), replica.Removed(from)), explained)
}

// vanished returns how many events have gone from a holding that neither newer
// ones nor their age have removed.
func vanished(before, now jet.Holding, maxAge time.Duration) uint64 {
	newer := now.Last - before.Last
	if before.Expires(maxAge) { // what stood first may have gone with its age
		return less(less(now.Removed(now.First.Sequence), before.Removed(before.First.Sequence)), newer)
	}
	return less(less(before.Messages+newer, now.Messages), newer)
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// less subtracts, down to 0.
func less(a, b uint64) uint64 { return a - min(a, b) }

func (a *Auditor) compareWithBefore(p event.Partition, now jet.Holding) (gone uint64) {
	before := a.before[p]
	a.before[p] = now
	if before.Created != now.Created || now.Last < before.Last {
		return 0 // another stream, or one that was rolled back: its epoch says so
	}
	gone = vanished(before, now, a.log.cfg.EventRetention)
	if gone > 0 {
		a.log.metrics.vanished.Add(float64(gone))
		a.log.logger.Error("events have vanished from the log: a file of the NATS server that leads the partition is damaged, or somebody has removed them",
			"partition", p, "events", gone)
	}
	return gone
}

// noteDifference remembers that the replicas differ, and when they do no more,
// begins a new epoch, unless another node has done so.
func (a *Auditor) noteDifference(ctx context.Context, p event.Partition, different uint64) error {
	l := a.log
	switch {
	case different > 0:
		a.differs[p] = l.Epoch(p)
	case a.differs[p] != "":
		epoch, err := l.RaiseEpoch(ctx, p, a.differs[p])
		if err != nil {
			return fmt.Errorf("raise the epoch of partition %d: %w", p, err)
		}
		a.differs[p] = ""
		l.logger.Warn("the NATS servers have the same events again; daemons are sent all that is retained", "partition", p, "epoch", string(epoch))
	}
	l.metrics.differences.WithLabelValues(strconv.Itoa(int(p))).Set(float64(different))
	return nil
}
