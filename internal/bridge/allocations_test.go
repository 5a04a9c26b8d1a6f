package bridge

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// heldStore answers when it is told to, and does nothing else.
type heldStore struct {
	store
	under []func(eventlog.Ack, error)
}

func (s *heldStore) PublishAsync(_ context.Context, _ event.Token, _ string, _ []byte, done func(eventlog.Ack, error)) {
	s.under = append(s.under, done)
}

func (s *heldStore) answer() {
	for _, done := range s.under {
		done(eventlog.Ack{}, nil)
	}
	s.under = s.under[:0]
}

// From what Redis has delivered to the publish, and back to its answer: the texts
// of the event, its place in its orchestrator's lane, and the two functions that
// carry the answer.
func TestAPayloadFromRedisToItsPublishAllocatesLittle(t *testing.T) {
	const size, most = 64, 11
	in := newInbox(1<<20, 1<<30)
	p := newPump(in, nil, nil, func() bool { return true }, event.DefaultMaxBytes, newMetrics(prometheus.NewRegistry()), discard)
	s := &heldStore{}
	p.store = s
	var messages []heard
	for i := range size {
		messages = append(messages, heard{channel: eventsChannel, body: []byte(eventJSON("vp", i))})
	}
	each := testing.AllocsPerRun(100, func() {
		for _, h := range messages {
			in.push(h)
		}
		p.takeIn()
		for p.sequencer.Len() > 0 { // one after the other: they are of one orchestrator
			p.start(t.Context())
			s.answer()
			p.takeResults()
		}
	}) / size
	require.LessOrEqual(t, each, float64(most), "allocations for each event")
	t.Logf("%.1f allocations for each event", each)
}
