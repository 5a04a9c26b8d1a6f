package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// oneDisk loses what one of three NATS servers keeps. Nothing has to be restored.
func (d *drill) oneDisk(ctx context.Context) error {
	traffic.Wait(ctx, d.publish/2)
	began, server := time.Now(), d.NATS[1]
	server.Kill()
	if err := os.RemoveAll(server.Data); err != nil {
		return err
	}
	d.step(began, "disaster: %s killed, its data deleted", server.Name())
	traffic.Wait(ctx, d.publish/2)
	began = time.Now()
	bounded, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	crashes, err := supervise(bounded, server)
	if err != nil {
		return err
	}
	var lagging []string
	err = traffic.Until(bounded, "all replicas are current", func() (_ bool, err error) {
		lagging, err = d.lagging(bounded)
		return len(lagging) == 0, err
	})
	if err != nil {
		return fmt.Errorf("%w: %v", err, lagging)
	}
	d.step(began, "%s started with an empty disk, and every stream has three current replicas again%s", server.Name(), crashes)
	if err := d.wake(ctx); err != nil {
		return err
	}
	return d.conclude(ctx, time.Time{}, nil)
}

// supervise starts a NATS server, and again when it ends by itself, as
// Kubernetes and systemd do, until it is ready. It tells of these ends.
func supervise(ctx context.Context, server *process.NATS) (crashes string, err error) {
	const most = 5
	for n := range most {
		if n > 0 {
			crashes = fmt.Sprintf(" (it crashed %d times, and was started again)", n)
		}
		if err = server.Start(); err != nil {
			return crashes, err
		}
		if err = server.AwaitReady(ctx); err == nil || server.Running() {
			return crashes, err
		}
	}
	return crashes, err
}

// lagging returns the streams that have a replica that is not current.
func (d *drill) lagging(ctx context.Context) (streams []string, err error) {
	all := d.Log.JetStream().ListStreams(ctx)
	for info := range all.Info() {
		current := info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == 2
		for _, r := range info.Cluster.Replicas {
			current = current && r.Current && !r.Offline
		}
		if !current {
			streams = append(streams, info.Config.Name)
		}
	}
	return streams, all.Err()
}

// nothingLeft loses all of JetStream, of which there is no backup, while the
// gateway runs.
func (d *drill) nothingLeft(ctx context.Context) error {
	d.sleep()
	traffic.Wait(ctx, d.publish)
	disaster := time.Now()
	if err := d.loseNATS(); err != nil {
		return err
	}
	over := time.Now()
	d.step(disaster, "disaster: all NATS servers killed, their data deleted")
	bounded, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	if err := d.StartNATS(bounded); err != nil {
		return err
	}
	d.step(disaster, "3 empty NATS servers started")
	d.Ledger.LogLost() // what edges had in hand has been sent
	started := time.Now()
	if err := traffic.Until(bounded, "the log takes events", func() (bool, error) { return d.takenSince(started) == len(habits)/2, nil }); err != nil {
		return err
	}
	d.step(disaster, "the gateway has created its streams again, and takes events")
	taken := time.Now()
	if err := d.wake(ctx); err != nil {
		return err
	}
	traffic.Wait(ctx, d.publish/2)
	// What was published before is gone, with what the last servers still took.
	before := d.between(time.Time{}, over)
	old := map[string]bool{}
	for _, p := range before {
		old[p.Event.ID] = true
	}
	gone := func(v ledger.Violation) bool { return v.Kind == ledger.Unstored && old[v.Event] }
	if err := errors.Join(d.stopPublishing(ctx, time.Time{}), d.Settle(ctx, ledger.Promise{Except: gone})); err != nil {
		return err
	}
	seen := d.seen()
	waiting := before[:0:0]
	for _, p := range before {
		if !seen[p.Event.ID].AckedBy(disaster) {
			waiting = append(waiting, p)
		}
	}
	d.price(len(waiting), len(missing(waiting, d.stored)), "published before the disaster and not acknowledged by then")
	after := d.Feed.Since(taken)
	got := func(p traffic.Publication) bool { return !seen[p.Event.ID].Acked.IsZero() }
	d.promise(len(after), missing(after, got), "published afterwards: delivered, after %d ms at most", slowest(after, seen))
	// An edge that has nobody of a partition may learn of its new epoch after a
	// daemon has come, which is then sent all again.
	repeated := func(v ledger.Violation) bool { return v.Kind == ledger.Repeated }
	if err := d.conclude(ctx, taken, func(v ledger.Violation) bool { return repeated(v) || gone(v) }); err != nil {
		return err
	}
	twice := 0
	for _, v := range d.Ledger.Check(ledger.Promise{}).Violations {
		if repeated(v) {
			twice++
		}
	}
	d.promised(twice, 0, "came twice to daemons that connected before their edge knew of the new epoch")
	return nil
}

// takenSince counts the orchestrators of which the log has acknowledged an event
// since a time.
func (d *drill) takenSince(from time.Time) int {
	orchestrators := map[protocol.OrchestratorID]bool{}
	for _, p := range d.Feed.Since(time.Time{}) {
		if p.Way == traffic.IntoLog && p.Taken.After(from) {
			orchestrators[p.Event.OrchestratorID] = true
		}
	}
	return len(orchestrators)
}
