package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// fleet is many daemons, each of its own orchestrator.
type fleet struct {
	orchestrators []protocol.OrchestratorID
	subscribed    atomic.Int64
	received      atomic.Int64
	repeated      atomic.Int64
	onEvent       func(protocol.Event)

	cancel context.CancelFunc
	done   sync.WaitGroup
	failed chan error
}

// startFleet connects n daemons, spread over the given edges, and waits until
// all are subscribed.
func startFleet(ctx context.Context, n int, edges []*cluster.Node, onEvent func(protocol.Event)) (*fleet, error) {
	f := &fleet{onEvent: onEvent, failed: make(chan error, 1)}
	running, cancel := context.WithCancel(ctx)
	f.cancel = cancel
	for i := range n {
		id := protocol.OrchestratorID(fmt.Sprintf("orchestrator-%05d", i))
		f.orchestrators = append(f.orchestrators, id)
		c, err := f.daemon(id, edges[i%len(edges)].URL)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.done.Go(func() {
			if err := c.Run(running); err != nil && running.Err() == nil {
				select {
				case f.failed <- err:
				default:
				}
			}
		})
	}
	if err := f.await(ctx, &f.subscribed, int64(n)); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *fleet) daemon(id protocol.OrchestratorID, url string) (*client.Client, error) {
	daemon := protocol.DaemonID("daemon-of-" + id)
	return client.New(client.Config{
		URLs: []string{url}, OrchestratorID: id, DaemonID: daemon,
		Token: func(context.Context) (string, error) {
			return auth.Mint(settings.Secret(cluster.Secret), auth.Grant{Orchestrator: id, Daemon: daemon, ExpiresAt: time.Now().Add(time.Hour)})
		},
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		OnState: func(s client.StateChange) {
			if s.State == client.StateSubscribed {
				f.subscribed.Add(1)
			}
		},
		Handler: func(_ context.Context, e protocol.Event) error {
			if e.Redelivered {
				f.repeated.Add(1)
				return nil
			}
			f.onEvent(e)
			f.received.Add(1)
			return nil
		},
	})
}

// await waits until the counter has come to n, or does not move any more.
func (f *fleet) await(ctx context.Context, counter *atomic.Int64, n int64) error {
	const patience = 30 * time.Second
	last, moved := counter.Load(), time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for counter.Load() < n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.failed:
			return err
		case <-ticker.C:
		}
		if now := counter.Load(); now != last {
			last, moved = now, time.Now()
		} else if time.Since(moved) > patience {
			return fmt.Errorf("stuck at %d of %d", now, n)
		}
	}
	return nil
}

func (f *fleet) stop() {
	f.cancel()
	f.done.Wait()
}
