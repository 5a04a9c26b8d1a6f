package protocol_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// A server reads a frame, carries out what is sound, and answers the rest.
func Example() {
	frame := []byte(`{"type":"subscribe","id":"m-7","timestamp":"2026-11-22T10:00:00.000Z",
		"payload":{"eventTypes":["message.*","no name"]}}`)

	message, fault := protocol.ParseClientMessage(frame)
	if p, ok := message.Payload.(protocol.Subscribe); ok {
		fmt.Println("subscribed to", p.EventTypes)
	}
	if fault != nil {
		answer := protocol.AppendFrame(nil, time.Now(), fault)
		fmt.Println(fault.Code, fault.Field, "in reply to", fault.InReplyTo, json.Valid(answer))
	}
	// Output:
	// subscribed to [message.*]
	// INVALID_MESSAGE payload.eventTypes[1] in reply to m-7 true
}

// The data of an event is written as it was published.
func ExampleAppendEvent() {
	frame := protocol.AppendEvent(nil, time.Now(), &protocol.Event{
		EventID: "event-1", EventType: "message.received", Data: []byte(`{ "content": "<b>" }`), RequiresAck: true,
	})
	m, err := protocol.ParseServerMessage(frame)
	fmt.Println(m.Type, string(m.Payload.(*protocol.Event).Data), err)
	// Output: event { "content": "<b>" } <nil>
}

func ExampleCloseCode_Reconnect() {
	for _, code := range []protocol.CloseCode{protocol.CloseAuthFailed, protocol.CloseGoingAway} {
		fmt.Println(code, code.Reconnect() != protocol.ReconnectNever)
	}
	// Output:
	// AUTH_FAILED false
	// GOING_AWAY true
}
