package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestEventsAreHandledInOrderAndAcknowledged(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		var handled []protocol.Event
		start(t, g, func(c *client.Config) {
			c.Handler = func(_ context.Context, e protocol.Event) error {
				handled = append(handled, e)
				return nil
			}
		})
		p := g.authenticated()
		var sent []string
		for i := range 300 {
			e := sampleEvent(fmt.Sprintf("e%d", i))
			e.Data = []byte(`{ "text":"<b>&ü",  "n": 1.0 }`)
			p.send(e)
			sent = append(sent, e.EventID)
		}
		noAck := sampleEvent("no-ack")
		noAck.RequiresAck = false
		p.send(noAck)
		var acked []string
		for len(acked) < len(sent) {
			acked = append(acked, nextOf[protocol.Ack](p).EventIDs...)
		}
		synctest.Wait()
		require.Equal(t, sent, acked)
		require.Len(t, handled, 301)
		for i, id := range sent {
			require.Equal(t, id, handled[i].EventID)
			require.Equal(t, `{ "text":"<b>&ü",  "n": 1.0 }`, string(handled[i].Data))
		}
	})
}

func TestAcksWithinTheIntervalGoTogether(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		start(t, g, func(c *client.Config) { c.AckInterval = time.Second })
		p := g.authenticated()
		p.send(sampleEvent("first"))
		require.Equal(t, []string{"first"}, nextOf[protocol.Ack](p).EventIDs)
		p.send(sampleEvent("second"), sampleEvent("third"))
		require.Equal(t, []string{"second", "third"}, nextOf[protocol.Ack](p).EventIDs)
	})
}

func TestHandlerDecidesWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g, func(c *client.Config) {
			c.Handler = func(_ context.Context, e protocol.Event) error {
				switch e.EventID {
				case "fails":
					return errors.New("no")
				case "later":
					return fmt.Errorf("queued: %w", client.ErrNoAck)
				}
				return nil
			}
		})
		p := g.authenticated()
		p.send(sampleEvent("fails"), sampleEvent("later"), sampleEvent("good"))
		require.Equal(t, []string{"good"}, nextOf[protocol.Ack](p).EventIDs)
		d.client.Ack("", strings.Repeat("x", 129), "\xff") // what the gateway would refuse
		d.client.Ack("later")
		require.Equal(t, []string{"later"}, nextOf[protocol.Ack](p).EventIDs)
	})
}

func TestWhatIsAcknowledgedWithoutConnectionIsSentOnTheNext(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		p := g.authenticated()
		_ = p.ws.CloseNow()
		d.state(client.StateDisconnected)
		d.client.Ack("late")
		require.Equal(t, []string{"late"}, nextOf[protocol.Ack](g.authenticated()).EventIDs)
	})
}

// The gateway refuses what is too large for a message, and closes: acks that were in it
// are lost, and what was in hand was tried in vain.
func TestAcksAndHeartbeatsOfLongIDsFitWhatTheGatewayTakes(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		var ids []string
		for _, filling := range []string{"x", "<", "\x01", "ü"} {
			for i := range 1000 {
				id := fmt.Sprintf("%d", i)
				ids = append(ids, id+strings.Repeat(filling, (protocol.MaxIDBytes-len(id))/len(filling)))
			}
		}
		d := start(t, g, func(c *client.Config) {
			c.Health = func() protocol.Heartbeat {
				return protocol.Heartbeat{InProgress: ids, Metrics: []byte(`"` + strings.Repeat("m", protocol.DefaultMaxMessageBytes) + `"`)}
			}
		})
		d.client.Ack(ids...)
		p := g.authenticated()
		var acked []string
		for len(acked) < len(ids) {
			acked = append(acked, nextOf[protocol.Ack](p).EventIDs...)
		}
		require.Equal(t, ids, acked)
		beat := nextOf[protocol.Heartbeat](p)
		require.Equal(t, ids[:len(beat.InProgress)], beat.InProgress)
		require.NotEmpty(t, beat.InProgress)
		require.Empty(t, beat.Metrics)
	})
}

func TestStatesAreToldInOrder(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		p := g.authenticated()
		p.send(protocol.Subscribed{Position: "p1", Resumed: true})
		require.Equal(t, client.StateConnecting, (<-d.states).State)
		require.Equal(t, protocol.SessionID("session"), (<-d.states).SessionID)
		require.Equal(t, &protocol.Subscribed{Position: "p1", Resumed: true}, (<-d.states).Subscribed)
		p.close(protocol.CloseGoingAway)
		down := <-d.states
		require.Equal(t, client.StateDisconnected, down.State)
		require.Equal(t, protocol.CloseGoingAway, down.Close)
		require.Equal(t, "GOING_AWAY", down.Reason)
		require.False(t, down.Local)
		require.Less(t, down.Delay, time.Second)
		d.cancel()
		require.NoError(t, d.wait())
		require.Equal(t, client.StateStopped, d.state(client.StateStopped).State)
	})
}

func TestStopClosesInOrderWithTheLastAcks(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g, func(c *client.Config) { c.AckInterval = time.Hour })
		p := g.authenticated()
		p.send(sampleEvent("a"))
		require.Equal(t, []string{"a"}, nextOf[protocol.Ack](p).EventIDs)
		p.send(sampleEvent("b"))
		synctest.Wait()
		d.cancel()
		require.Equal(t, []string{"b"}, nextOf[protocol.Ack](p).EventIDs)
		require.Equal(t, protocol.CloseNormal, p.awaitClose())
		require.NoError(t, d.wait())
		require.True(t, d.state(client.StateDisconnected).Local)
	})
}

func TestStopDoesNotWaitForAPeerThatIsSilent(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(ctx context.Context, _ protocol.Event) error{
		"idle":         func(context.Context, protocol.Event) error { return nil },
		"slow handler": func(ctx context.Context, _ protocol.Event) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, g *gateway) {
				d := start(t, g, func(c *client.Config) { c.CloseTimeout, c.Handler = 3*time.Second, handler })
				p := g.authenticated()
				p.flood(200) // more than the client's queue holds
				synctest.Wait()
				g.network.held.Store(true)
				begun := time.Now()
				d.cancel()
				require.NoError(t, d.wait())
				require.LessOrEqual(t, time.Since(begun), 3*time.Second)
			})
		})
	}
}

func TestMessagesThatAreNotUnderstoodAreIgnored(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		start(t, g)
		p := g.authenticated()
		p.sendText(`{"type":"novelty","id":"1","payload":{"x":1}}`)
		p.sendText(`not json`)
		p.sendText(`{"type":"event","payload":{"eventId":7}}`)
		p.send(&protocol.Fault{Code: protocol.InternalError, Message: "oops"})
		p.send(sampleEvent("e"))
		require.Equal(t, []string{"e"}, nextOf[protocol.Ack](p).EventIDs)
	})
}

func TestResumeIsAskedBeforeEachConnection(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		position := "p1"
		start(t, g, func(c *client.Config) { c.Resume = func() string { return position } })
		p := g.connection()
		require.Equal(t, &protocol.Resume{Position: "p1"}, nextOf[protocol.Auth](p).Resume)
		position = ""
		_ = p.ws.CloseNow()
		require.Nil(t, nextOf[protocol.Auth](g.connection()).Resume)
	})
}

func TestFramesAreShownWithoutTheToken(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		frames := make(chan client.Frame, 100)
		start(t, g, func(c *client.Config) { c.OnFrame = func(f client.Frame) { frames <- f } })
		p := g.authenticated()
		p.send(sampleEvent("e"))
		nextOf[protocol.Ack](p)
		want := []struct {
			sent bool
			kind protocol.MessageType
		}{{true, protocol.TypeAuth}, {false, protocol.TypeAuthSuccess}, {true, protocol.TypeSubscribe}, {false, protocol.TypeEvent}, {true, protocol.TypeAck}}
		for _, w := range want {
			f := <-frames
			require.Equal(t, w.sent, f.Sent)
			require.Equal(t, w.kind, f.Type)
			require.NotContains(t, string(f.Data), "token-1")
			require.Equal(t, w.kind != protocol.TypeAuth, f.Data != nil)
		}
	})
}

func TestUpgradeThatIsRefusedIsTriedAgainWhenTheGatewaySays(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		g.answer = func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		d := start(t, g)
		down := d.state(client.StateDisconnected)
		var refused *client.HandshakeError
		require.ErrorAs(t, down.Err, &refused)
		require.Equal(t, client.HandshakeError{Status: 503, RetryAfter: 20 * time.Second}, *refused)
		require.Equal(t, 20*time.Second, down.Delay)
		require.Equal(t, protocol.CloseAbnormal, down.Close)
	})
}

func TestEachAttemptTakesTheNextURL(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		start(t, g, func(c *client.Config) { c.URLs = []string{"ws://gateway/one", "ws://gateway/two"} })
		for _, want := range []string{"/one", "/two", "/one"} {
			p := g.connection()
			require.Equal(t, want, p.path)
			_ = p.ws.CloseNow()
		}
	})
}

func TestRunMayBeCalledOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := start(t, newGateway(t))
		d.state(client.StateConnecting)
		require.ErrorContains(t, d.client.Run(t.Context()), "called before")
	})
}

func TestConfigurationNamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := client.New(client.Config{
		URLs:          []string{"http://x", "ws://"},
		Subscriptions: []protocol.Subscribe{{}, {EventTypes: []protocol.Pattern{"bad"}}, {EventTypes: slices.Repeat([]protocol.Pattern{"*"}, 51)}},
		Backoff:       client.Backoff{Min: time.Minute, Max: time.Second, Factor: 0.5},
		WriteTimeout:  -1,
	})
	for _, want := range []string{
		`"http://x"`, `"ws:"`, "Token is not set", "Handler is not set", "OrchestratorID", "DaemonID", "subscription 0 names no",
		`subscription 1: event type "bad"`, "52 event types", "WriteTimeout is negative", "Backoff.Max is less", "Factor is less",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = client.New(client.Config{})
	require.ErrorContains(t, err, "URLs is empty")
}
