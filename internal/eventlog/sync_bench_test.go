package eventlog_test

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// BenchmarkSync tells what it costs that NATS syncs each message to disk before
// it acknowledges it, which is how an event survives a loss of power: events
// stored a second with many publishers at once, and how long one publisher
// waits.
func BenchmarkSync(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		for _, always := range []bool{false, true} {
			for _, publishers := range []int{1, 256} {
				b.Run(fmt.Sprintf("replicas=%d/always=%t/publishers=%d", replicas, always, publishers), func(b *testing.B) {
					l := syncing(b, replicas, always)
					var waits []time.Duration
					var mu sync.Mutex
					var next atomic.Int64
					body := []byte(strings.Repeat("x", 420))
					b.ResetTimer()
					var group sync.WaitGroup
					for range publishers {
						group.Go(func() {
							var own []time.Duration
							for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
								began := time.Now()
								_, err := l.Publish(b.Context(), event.Token(fmt.Sprint("o", n%1000)), fmt.Sprint(n), body)
								if err != nil {
									b.Error(err)
									return
								}
								own = append(own, time.Since(began))
							}
							mu.Lock()
							defer mu.Unlock()
							waits = append(waits, own...)
						})
					}
					group.Wait()
					b.StopTimer()
					slices.Sort(waits)
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
					for name, share := range map[string]int{"p50-ms": 50, "p99-ms": 99} {
						b.ReportMetric(float64(waits[len(waits)*share/100].Microseconds())/1000, name)
					}
				})
			}
		}
	}
}

// syncing opens a log with one partition on as many servers as it has replicas.
func syncing(b *testing.B, replicas int, always bool) *eventlog.Log {
	b.Helper()
	var routes []*url.URL
	var ports []int
	for range replicas {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		ports = append(ports, free.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: free.Addr().String()})
		require.NoError(b, free.Close())
	}
	var servers []*testserver.NATSServer
	for i := range replicas {
		servers = append(servers, testserver.NATS(b, func(o *server.Options) {
			o.SyncAlways, o.ServerName = always, fmt.Sprint("n", i)
			if replicas > 1 {
				o.Cluster = server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]}
				o.Routes = routes
			}
		}))
	}
	cfg := config(func(c *eventlog.Config) { c.Partitions, c.StreamReplicas = 1, replicas })
	l, err := eventlog.Open(b.Context(), servers[0].JetStream(), cfg, quiet(), prometheus.NewRegistry())
	require.NoError(b, err)
	return l
}
