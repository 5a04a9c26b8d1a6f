package bench

import (
	"context"
	"errors"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/load"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

const (
	// rushOthers are the daemons that stay connected, and rushRate the events that
	// they receive a second.
	rushOthers = 500
	rushRate   = 500
	// rushDials is how many of the rush connect at a time.
	rushDials = 512
)

// rush has many daemons come back at once, as after the loss of other edges, while
// others receive events: what these have of it, and what NATS is asked.
func (b *bench) rush(ctx context.Context, s *system) error {
	others, err := b.fleet(ctx, s, rushOthers)
	if err != nil {
		return err
	}
	defer others.Close()
	crowd := load.Config{
		URLs: s.urls, Secret: s.secret, TLS: s.tls, Daemons: b.options.rush, First: rushOthers, Dials: rushDials,
	}
	f, err := load.Open(ctx, crowd)
	if err != nil {
		return err
	}
	f.Close() // they have been there before
	traffic.Wait(ctx, b.options.settle)

	entrance, err := s.openLog()
	if err != nil {
		return err
	}
	p := load.NewPublisher(others, entrance)
	publishing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- p.Paced(publishing, rushRate, time.Hour) }()
	traffic.Wait(ctx, b.options.warmUp+b.options.duration)
	calm := time.Now()
	took, err := b.comeBack(ctx, s, crowd)
	back := time.Now()
	stop()
	if end := <-ended; !errors.Is(end, context.Canceled) {
		err = errors.Join(err, end)
	}
	if err == nil {
		err = others.Await(ctx, p.Sent())
	}
	if err = errors.Join(err, entrance.Close()); err != nil {
		return err
	}
	seen := others.Seen()
	b.check(s, seen)
	b.percentiles(s.name, "others before the rush", seen.Latencies(began.Add(b.options.warmUp), calm))
	b.percentiles(s.name, "others in the rush", seen.Latencies(back.Add(-took), back))
	return nil
}

// comeBack connects the crowd and returns how long that took. It notes what each
// has cost, events of others among it.
func (b *bench) comeBack(ctx context.Context, s *system, crowd load.Config) (took time.Duration, err error) {
	costs, err := s.meter(ctx)
	if err != nil {
		return 0, err
	}
	before, err := s.asked(ctx)
	if err != nil {
		return 0, err
	}
	f, err := load.Open(ctx, crowd)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n := float64(crowd.Daemons)
	b.results.add("rush, connects/s", s.name, n/f.Opened().Seconds())
	after, err := s.asked(ctx)
	if err != nil {
		return 0, err
	}
	b.results.add("rush, questions to the log, each", s.name, (after-before)/n)
	return f.Opened(), costs.add(ctx, b.results, "rush", n)
}

// asked is how many questions the edges have asked the log so far: about cursors,
// and about events.
func (s *system) asked(ctx context.Context) (n float64, err error) {
	for _, name := range []string{"gateway_cursor_reads_total", "gateway_log_requests_total"} {
		of, err := cluster.Sum(ctx, s.tiers[0].nodes, name)
		if err != nil {
			return 0, err
		}
		n += of
	}
	return n, nil
}
