package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func Example() {
	gateway := httptest.NewServer(http.HandlerFunc(playGateway))
	defer gateway.Close()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	c, err := client.New(client.Config{
		URLs:           []string{strings.Replace(gateway.URL, "http", "ws", 1) + protocol.Path},
		Token:          func(context.Context) (string, error) { return "an access token", nil },
		OrchestratorID: "clx1",
		DaemonID:       "worker-1",
		Subscriptions:  []protocol.Subscribe{{EventTypes: []protocol.Pattern{"message.*", "channel.joined"}}},
		Handler: func(_ context.Context, e protocol.Event) error {
			fmt.Printf("%s: %s\n", e.EventType, e.Data)
			stop()     // a real daemon goes on
			return nil // acknowledges the event
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Run(ctx))
	// Output:
	// message.received: {"content": "hello"}
	// <nil>
}

// playGateway stands in for a gateway: it admits whoever comes and sends one event.
func playGateway(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = ws.CloseNow() }()
	answers := map[protocol.MessageType]protocol.ServerPayload{
		protocol.TypeAuth: protocol.AuthSuccess{SessionID: "s1", HeartbeatInterval: 30 * time.Second},
		protocol.TypeSubscribe: &protocol.Event{
			EventID: "event-1", EventType: "message.received", Data: []byte(`{"content": "hello"}`), RequiresAck: true,
		},
	}
	for {
		_, data, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		m, _ := protocol.ParseClientMessage(data)
		if answer, ok := answers[m.Type]; ok {
			_ = ws.Write(r.Context(), websocket.MessageText, protocol.AppendFrame(nil, time.Now(), answer))
		}
	}
}
