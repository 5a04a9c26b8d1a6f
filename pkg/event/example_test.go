package event_test

import (
	"errors"
	"fmt"

	"github.com/neolith/daemon-gateway/pkg/event"
)

func Example() {
	e, err := event.Parse([]byte(`{"id":"event-1","type":"message.received","orchestratorId":"team.one",
		"payload":{ "content":"<b>hello</b>" },"requiresAck":true}`), event.DefaultMaxBytes)
	if err != nil {
		fmt.Println(err)
		return
	}
	token := event.TokenOf(e.OrchestratorID)
	fmt.Println(event.Subject(event.PartitionOf(token, 16), token))
	fmt.Println(event.MessageID(token, e.ID))
	fmt.Println(string(e.Payload))
	// Output:
	// daemon.events.10.team=2Eone
	// team=2Eone/event-1
	// { "content":"<b>hello</b>" }
}

func ExampleInvalidError() {
	_, err := event.Parse([]byte(`{"id":"event-1","type":"hello","orchestratorId":"o","payload":{}}`), event.DefaultMaxBytes)
	var invalid *event.InvalidError
	if errors.As(err, &invalid) {
		fmt.Println(invalid.Reason, invalid.Field)
	}
	// Output: invalid_field type
}
