package e2e_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/balancer"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// host is where an edge listens.
func host(edge *cluster.Node) string {
	u, err := url.Parse(edge.URL)
	if err != nil {
		panic(err)
	}
	return u.Host
}

// front puts a load balancer in front of the edges, for all daemons.
func (p *population) front() *balancer.Balancer {
	p.w.t.Helper()
	var hosts []string
	for _, e := range p.w.Edges {
		hosts = append(hosts, host(e))
	}
	b, err := balancer.Start(hosts...)
	require.NoError(p.w.t, err)
	p.w.t.Cleanup(func() { _ = b.Close() })
	for _, s := range p.everybody() {
		s.Profile.URLs = []string{"ws://" + b.Address() + protocol.Path}
	}
	return b
}

// manners is what daemons see of how the gateway treats their connections.
type manners struct {
	mu     sync.Mutex
	asked  map[protocol.SessionID]bool
	delays []time.Duration // of reconnect, since the last take
	rude   []string        // what no graceful stop may show
}

// watch lets all daemons tell what they see.
func (p *population) watch() *manners {
	m := &manners{asked: map[protocol.SessionID]bool{}}
	for _, s := range p.everybody() {
		m.watch(&s.Profile)
	}
	return m
}

func (m *manners) watch(p *traffic.Profile) {
	var session protocol.SessionID
	p.OnState = func(s client.StateChange) {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch s.State {
		case client.StateAuthenticated:
			session = s.SessionID
		case client.StateDisconnected:
			left := s.Local && s.Close == protocol.CloseNormal && m.asked[s.SessionID]
			if !left && s.Close != protocol.CloseGoingAway {
				m.rude = append(m.rude, fmt.Sprintf("%s: %+v", p.Daemon, s))
			}
		}
	}
	p.OnFrame = func(f client.Frame) {
		if f.Sent {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		switch f.Type {
		case protocol.TypeReconnect:
			m.asked[session] = true
			message, err := protocol.ParseServerMessage(f.Data)
			if r, ok := message.Payload.(protocol.Reconnection); err == nil && ok {
				m.delays = append(m.delays, r.Delay)
			}
		case protocol.TypeError, protocol.TypeAuthError, protocol.TypeRateLimit:
			m.rude = append(m.rude, fmt.Sprintf("%s: %s", p.Daemon, f.Data))
		}
	}
}

// take returns the delays that were announced since it was called last.
func (m *manners) take() []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	delays := m.delays
	m.delays = nil
	return delays
}

func (m *manners) rudeness() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rude
}

// requireSpread requires that no tenth of the period has more than its share.
func requireSpread(t *testing.T, delays []time.Duration, period time.Duration) {
	t.Helper()
	slices.Sort(delays)
	share := (len(delays)+9)/10 + 1
	for i := range delays {
		window := 0
		for _, d := range delays[i:] {
			if d < delays[i]+period/10 {
				window++
			}
		}
		require.LessOrEqual(t, window, share, "of %d daemons: %v", len(delays), delays)
	}
	require.Less(t, delays[len(delays)-1], period)
}

// awaitCopies waits until every stream has a leader and all its copies: only then
// may the next NATS server be stopped without an election that takes seconds. Under
// load a copy is always some messages behind.
func (w *world) awaitCopies() {
	w.t.Helper()
	const behind, silent = 100, 3 * time.Second // messages; leaders ask copies each second
	var missing lines
	w.eventually(func() bool {
		missing = nil
		streams := w.Log.JetStream().ListStreams(w.ctx)
		for s := range streams.Info() {
			if s.Cluster.Leader == "" || len(s.Cluster.Replicas) != len(w.NATS)-1 {
				missing = append(missing, fmt.Sprintf("%s: leader %q, %d replicas", s.Config.Name, s.Cluster.Leader, len(s.Cluster.Replicas)))
			}
			for _, r := range s.Cluster.Replicas {
				if r.Offline || r.Lag > behind || r.Active > silent {
					missing = append(missing, fmt.Sprintf("%s: %+v", s.Config.Name, *r))
				}
			}
		}
		return len(missing) == 0 && streams.Err() == nil
	}, "copies of streams are missing: %s", &missing)
}

// lines is a text that is only known when it is shown.
type lines []string

func (l *lines) String() string { return strings.Join(*l, "; ") }
