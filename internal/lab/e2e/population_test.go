package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// population is orchestrators with one to three daemons each, on all edges.
type population struct {
	w       *world
	random  *rand.Rand
	seats   [][]traffic.Profile // by orchestrator
	running map[ledger.Seat]*traffic.Daemon
	events  int // published so far
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
	p := &population{w: w, random: rand.New(rand.NewPCG(1, 2)), running: map[ledger.Seat]*traffic.Daemon{}}
	for i := range orchestrators {
		// Some ids need escaping in subjects and keys.
		id := protocol.OrchestratorID(fmt.Sprintf("vp_%d", i))
		if i%10 == 7 {
			id = protocol.OrchestratorID(fmt.Sprintf("vp %d.*/ü", i))
		}
		var seats []traffic.Profile
		daemons := 1 + i%3
		if i == 0 {
			daemons = 2
		}
		for j := range daemons {
			seats = append(seats, traffic.Profile{
				Seat: ledger.Seat(fmt.Sprintf("%s#%d", id, j)), Orchestrator: id,
				Daemon:     protocol.DaemonID(fmt.Sprintf("daemon_session_%s_%d", id, j)),
				Subscribes: subscribes[j], URLs: w.edgesFrom(i + j), Secret: cluster.Secret,
			})
		}
		p.seats = append(p.seats, seats)
	}
	return p
}

// edgesFrom returns the URLs of all edges, beginning with the n-th.
func (w *world) edgesFrom(n int) []string {
	var urls []string
	for i := range w.Edges {
		urls = append(urls, w.Edges[(n+i)%len(w.Edges)].URL)
	}
	return urls
}

// profiles returns all seats as they are taken now.
func (p *population) profiles() []traffic.Profile { return slices.Concat(p.seats...) }

// start starts daemons, all at once, and waits until they are subscribed. Those
// of one orchestrator begin on different edges before the directory shows them
// to each other, and still none is taken for gone.
func (p *population) start(profiles []traffic.Profile) {
	p.w.t.Helper()
	for _, profile := range profiles {
		p.launch(profile)
	}
	for _, profile := range profiles {
		require.NoError(p.w.t, p.running[profile.Seat].AwaitSubscribed(p.w.ctx))
	}
	p.w.awaitClaims(len(p.running))
}

func (p *population) launch(profile traffic.Profile) *traffic.Daemon {
	p.w.t.Helper()
	d, err := traffic.StartDaemon(p.w.ledger, profile)
	require.NoError(p.w.t, err)
	p.w.t.Cleanup(func() { _ = d.Stop() })
	p.running[profile.Seat] = d
	return d
}

// stop closes the connections of daemons in order.
func (p *population) stop(profiles []traffic.Profile) {
	p.w.t.Helper()
	for _, profile := range profiles {
		require.NoError(p.w.t, p.running[profile.Seat].Stop())
		delete(p.running, profile.Seat)
	}
}

// rename gives seats new daemon ids, and other edges than before.
func (p *population) rename(profiles []traffic.Profile) []traffic.Profile {
	var renamed []traffic.Profile
	for _, seats := range p.seats {
		for i := range seats {
			if !slices.ContainsFunc(profiles, func(old traffic.Profile) bool { return old.Seat == seats[i].Seat }) {
				continue
			}
			seats[i].Daemon += "-again"
			urls := seats[i].URLs
			seats[i].URLs = append(slices.Clone(urls[1:]), urls[0])
			renamed = append(renamed, seats[i])
		}
	}
	return renamed
}

var eventTypes = []protocol.EventType{
	"message.received", "message.received", "message.reaction", "channel.joined", "presence.updated",
	"call.started", "vp.mentioned", "system.maintenance", "custom_thing.of-tomorrow",
}

var channels = []string{"", "c1", "c2", "c3"}

// payloads are forms that survive only if nobody parses and writes them anew.
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
	n := p.events
	p.events++
	seats := p.seats[n%len(p.seats)]
	e := event.Event{
		ID:             fmt.Sprintf("event_%d_%d", 1732291200000+n, n),
		Type:           eventTypes[p.random.IntN(len(eventTypes))],
		OrchestratorID: seats[0].Orchestrator,
		Payload:        json.RawMessage(fmt.Sprintf(payloads[n%len(payloads)], n)),
		Timestamp:      "2026-11-22T10:00:00.000Z",
		WorkspaceID:    "w1",
		ChannelID:      channels[p.random.IntN(len(channels))],
		RequiresAck:    p.random.IntN(5) > 0,
	}
	if p.random.IntN(20) == 0 {
		e.DaemonID = seats[p.random.IntN(len(seats))].Daemon
	}
	if p.random.IntN(50) == 0 {
		e.Priority = 1
	}
	return e
}

// publish publishes n events on Redis, in pipelines.
func (p *population) publish(n int) {
	p.w.t.Helper()
	for events := range slices.Chunk(p.generate(n), 500) {
		require.NoError(p.w.t, p.w.publisher.Publish(p.w.ctx, events))
	}
}

// settle waits until everything that is owed has been delivered.
func (p *population) settle(promise ledger.Promise) {
	p.w.t.Helper()
	var missing []ledger.Violation
	if !p.w.within(func() bool {
		missing = p.w.ledger.Outstanding(promise)
		return len(missing) == 0
	}) {
		p.w.t.Fatalf("%d events are missing, such as %v", len(missing), missing[:min(20, len(missing))])
	}
}

// judge checks all that happened against the log and the promise.
func (p *population) judge(promise ledger.Promise) ledger.Report {
	p.w.t.Helper()
	require.NoError(p.w.t, p.w.log.Record(p.w.ctx, p.w.ledger, partitions))
	report := p.w.ledger.Check(promise)
	p.w.t.Log(report)
	require.Empty(p.w.t, report.Violations, "what the daemons saw breaks a promise")
	return report
}
