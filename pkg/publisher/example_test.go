package publisher_test

import (
	"context"
	"fmt"
	"os"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

func Example() {
	dir, err := os.MkdirTemp("", "publisher-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// In production the cluster has created the log, and js is
	// jetstream.New(nats.Connect(...)).
	server, js, err := startNATS(dir, 1<<20)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Shutdown()
	defer js.Conn().Close()

	p, err := publisher.New(js, publisher.Config{Partitions: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	ack, err := p.Publish(context.Background(), event.Event{
		ID: "event-1", Type: "message.received", OrchestratorID: "clx1",
		Payload: []byte(`{"content":"hello"}`), RequiresAck: true,
	})
	fmt.Println(ack.Sequence, ack.Duplicate, err)
	// Output: 1 false <nil>
}
