package edge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// reader takes frames from a raw connection without allocating.
type reader struct {
	t    *testing.T
	in   *bufio.Reader
	text [4096]byte
}

// next returns the next frame's text, which is valid until the next call.
func (r *reader) next() []byte {
	head, err := r.in.Peek(4)
	require.NoError(r.t, err)
	length, skip := int(head[1]), 2
	if length == 126 {
		length, skip = int(binary.BigEndian.Uint16(head[2:])), 4
	}
	_, err = r.in.Discard(skip)
	require.NoError(r.t, err)
	_, err = io.ReadFull(r.in, r.text[:length])
	require.NoError(r.t, err)
	return r.text[:length]
}

// until reads frames until one is of a type, and returns how many were events.
func (r *reader) until(messageType string) (events int) {
	for {
		text := r.next()
		switch {
		case bytes.HasPrefix(text, []byte(`{"type":"`+messageType+`"`)):
			return events
		case bytes.HasPrefix(text, []byte(`{"type":"event"`)):
			events++
		}
	}
}

// From a router's batch through the hub, the session and the socket to the
// daemon, and its ack back: what an edge allocates for an event. The parts have
// tests of their own; this one keeps what joins them. What the node and the
// server allocate beside that is among it, and is more the longer it takes: so
// there are as many events as a window has room for, and as much room again.
func TestAnEventFromBatchToSocketAndItsAckAllocateLittle(t *testing.T) {
	const runs, size, most = 10, 96, 30
	c := newCluster(t)
	// The events are older by the time that they are handed over than those that
	// are traced for having waited.
	n := c.edge(func(cfg *Config) { cfg.Trace.TraceSample = 0 })
	conn := n.silent()
	in := &reader{t: t, in: bufio.NewReader(conn)}
	for line := ""; line != "\r\n"; {
		var err error
		line, err = in.in.ReadString('\n')
		require.NoError(t, err)
	}
	writeMasked(t, conn, frameOf("auth", authPayload(t, "vp", "d")))
	in.until("auth_success")
	writeMasked(t, conn, frameOf("subscribe", `{"eventTypes":`+everything+`}`))
	in.until("subscribed")

	var batches []received
	var acks []string
	after := uint64(0)
	for range runs + 1 { // AllocsPerRun runs once more
		b := delivery.Batch{}
		var ids []string
		for range size {
			s := c.publish("vp")
			b.Partition, b.Epoch = s.p, c.log.Epoch(s.p)
			b.Events = append(b.Events, delivery.Forwarded{
				Message: eventlog.Message{Token: s.token, Sequence: s.sequence, Stored: time.Now(), Body: s.body}, After: after,
			})
			after = s.sequence
			ids = append(ids, fmt.Sprintf("%q", s.id))
		}
		batches = append(batches, received{b, &nats.Msg{}})
		acks = append(acks, frameOf("ack", `{"eventIds":[`+strings.Join(ids, ",")+`]}`))
	}
	heartbeat := frameOf("heartbeat", `{"status":"active"}`)
	receiver := newReceiver(c.nc, n.door.services.Load().hub, newCaller(c.nc, n.directory, n.canaryInterval, n.metrics, quiet()), n.trace, n.metrics, quiet())
	run := 0
	each := testing.AllocsPerRun(runs, func() {
		receiver.handOver(batches[run])
		for range size {
			in.next()
		}
		writeMasked(t, conn, acks[run])
		writeMasked(t, conn, heartbeat)
		in.until("heartbeat_ack") // the ack has been taken in before
		run++
	}) / size
	require.LessOrEqual(t, each, float64(most), "allocations for each event")
	t.Logf("%.1f allocations for each event", each)
}
