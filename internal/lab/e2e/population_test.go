package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// population is orchestrators with one to three daemons each, on all edges.
type population struct {
	w     *world
	seats [][]*traffic.Seat // by orchestrator

	mu     sync.Mutex
	random *rand.Rand
	events int // made so far
}

// subscribes are what the first, second and third daemon of an orchestrator
// subscribe to. Each event matches the first one's.
var subscribes = [][]protocol.Subscribe{
	{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
	{{EventTypes: []protocol.Pattern{"message.*"}, ChannelIDs: []string{"c1", "c2"}}, {EventTypes: []protocol.Pattern{"vp.mentioned"}}},
	{{EventTypes: []protocol.Pattern{"message.received", "call.*"}}},
}

// populate lays out daemons; none runs yet. Orchestrators have one, two and
// three daemons in turn, apart from the first with two: 100 of them have 200.
func (w *world) populate(orchestrators int) *population {
	p := &population{w: w, random: rand.New(rand.NewPCG(1, 2))}
	for i := range orchestrators {
		var seats []*traffic.Seat
		daemons := 1 + i%3
		if i == 0 {
			daemons = 2
		}
		for j := range daemons {
			s := w.Crowd.Add(numbered(i), traffic.Habit{}, subscribes[j]...)
			s.Turn(i + j)
			s.Profile.ConnectTimeout = patience
			seats = append(seats, s)
		}
		p.seats = append(p.seats, seats)
	}
	return p
}

// numbered names an orchestrator. Some ids need escaping in subjects and keys.
func numbered(i int) protocol.OrchestratorID {
	if i%10 == 7 {
		return protocol.OrchestratorID(fmt.Sprintf("vp %d.*/ü", i))
	}
	return protocol.OrchestratorID(fmt.Sprintf("vp_%d", i))
}

// everybody returns all seats.
func (p *population) everybody() []*traffic.Seat { return slices.Concat(p.seats...) }

// enter has daemons take seats, all at once, and waits until they are subscribed
// and known everywhere. Those of one orchestrator begin on different edges before
// the directory shows them to each other, and still none is taken for gone.
func (w *world) enter(seats ...*traffic.Seat) {
	w.t.Helper()
	require.NoError(w.t, w.Crowd.Enter(w.ctx, seats...))
	require.NoError(w.t, w.AwaitClaims(w.ctx, w.Crowd.Present()))
}

// leave has daemons leave gracefully.
func (w *world) leave(seats ...*traffic.Seat) {
	w.t.Helper()
	w.Crowd.Leave(seats...)
	require.Empty(w.t, w.Crowd.Refused())
}

// rename gives seats new daemon ids, and other edges than before.
func rename(seats ...*traffic.Seat) {
	for _, s := range seats {
		s.Rename()
		urls := s.Profile.URLs
		s.Profile.URLs = slices.Concat(urls[1:], urls[:1])
	}
}

var eventTypes = []protocol.EventType{
	"message.received", "message.received", "message.reaction", "channel.joined", "presence.updated",
	"call.started", "vp.mentioned", "system.maintenance", "custom_thing.of-tomorrow",
}

var channels = []string{"", "c1", "c2", "c3"}

// payloads are forms that survive only if nobody parses them and writes them
// again.
var payloads = []string{
	`{"messageId":"m%d","content":"hello","authorId":"u1"}`,
	`{ "n" : %d, "big": 12345678901234567890, "real": 1.0, "exp": 1E+2 }`,
	"{\"z\":1,\"a\":%d,\t\"html\":\"<b>&amp;</b>\",\"escaped\":\"\\u00fc\\/\", \"plain\":\"ü😀\"}",
	`{"deep":{"list":[1,[2,[3,{"n":%d}]],null,true]},"twice":1,"twice":2}`,
}

// generate makes n events, turn by turn for each orchestrator.
func (p *population) generate(n int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = p.next()
	}
	return events
}

func (p *population) next() event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.events
	p.events++
	seats := p.seats[n%len(p.seats)]
	e := event.Event{
		ID:             fmt.Sprintf("event_%d_%d", 1732291200000+n, n),
		Type:           eventTypes[p.random.IntN(len(eventTypes))],
		OrchestratorID: seats[0].Profile.Orchestrator,
		Payload:        json.RawMessage(fmt.Sprintf(payloads[n%len(payloads)], n)),
		Timestamp:      "2026-11-22T10:00:00.000Z",
		WorkspaceID:    "w1",
		ChannelID:      channels[p.random.IntN(len(channels))],
		RequiresAck:    p.random.IntN(5) > 0,
	}
	if p.random.IntN(20) == 0 {
		e.DaemonID = seats[p.random.IntN(len(seats))].Profile.Daemon
	}
	if p.random.IntN(50) == 0 {
		e.Priority = 1
	}
	return e
}

// made is how many events there have been.
func (p *population) made() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events
}

// publish publishes n events on Redis, in pipelines.
func (p *population) publish(n int) {
	p.w.t.Helper()
	for events := range slices.Chunk(p.generate(n), 500) {
		require.NoError(p.w.t, p.w.Feed.Publish(p.w.ctx, traffic.OnRedis, events...))
	}
}

// settle waits until everything that is owed has been delivered.
func (p *population) settle(promise ledger.Promise) {
	p.w.t.Helper()
	var missing []ledger.Violation
	if !p.w.within(func() bool {
		missing = p.w.Ledger.Outstanding(promise)
		return len(missing) == 0
	}) {
		p.w.t.Fatalf("%d events are missing, such as %v", len(missing), missing[:min(20, len(missing))])
	}
}

// judge checks all that happened against the log and the promise.
func (p *population) judge(promise ledger.Promise) ledger.Report {
	p.w.t.Helper()
	p.w.record()
	report := p.w.Ledger.Check(promise)
	p.w.t.Log(report)
	require.Empty(p.w.t, report.Violations, "what the daemons saw breaks a promise")
	return report
}
