package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestHeartbeatsComeAtTheIntervalWithWhatHealthSays(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		health := protocol.Heartbeat{Status: protocol.StatusBusy, Metrics: []byte(`{"uptimeSeconds":7}`)}
		start(t, g, func(c *client.Config) { c.Health = func() protocol.Heartbeat { return health } })
		p := g.authenticated()
		begun := time.Now()
		require.Equal(t, health, nextOf[protocol.Heartbeat](p))
		first := time.Since(begun)
		require.GreaterOrEqual(t, first, 15*time.Second)
		require.LessOrEqual(t, first, 30*time.Second)
		for i := range 10 {
			p.send(protocol.HeartbeatAck{})
			nextOf[protocol.Heartbeat](p)
			require.Equal(t, first+time.Duration(i+1)*30*time.Second, time.Since(begun))
		}
	})
}

// A daemon may beat more often than it must, but not less, and gives a silent
// gateway as much time as before.
func TestADaemonMayBeatMoreOftenThanTheGatewayAsks(t *testing.T) {
	t.Parallel()
	for own, want := range map[time.Duration]time.Duration{2 * time.Second: 2 * time.Second, time.Hour: 30 * time.Second} {
		bubble(t, func(t *testing.T, g *gateway) {
			d := start(t, g, func(c *client.Config) { c.HeartbeatInterval = own })
			p := g.authenticated()
			nextOf[protocol.Heartbeat](p)
			for range 10 {
				p.send(protocol.HeartbeatAck{})
				before := time.Now()
				nextOf[protocol.Heartbeat](p)
				require.Equal(t, want, time.Since(before))
			}
			unanswered := time.Now()
			require.Equal(t, 30*time.Second, d.state(client.StateDisconnected).Time.Sub(unanswered))
		})
	}
}

func TestMetricsThatAreNotJSONDoNotCostTheConnection(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		start(t, g, func(c *client.Config) {
			c.Health = func() protocol.Heartbeat {
				return protocol.Heartbeat{Status: protocol.StatusIdle, Metrics: []byte(`{"uptimeSeconds":`)}
			}
		})
		require.Equal(t, protocol.Heartbeat{Status: protocol.StatusIdle}, nextOf[protocol.Heartbeat](g.authenticated()))
	})
}

func TestSilentConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g, func(c *client.Config) { c.HeartbeatTimeout = 5 * time.Second })
		nextOf[protocol.Heartbeat](g.authenticated())
		beat := time.Now()
		down := d.state(client.StateDisconnected)
		require.ErrorIs(t, down.Err, client.ErrDead)
		require.True(t, down.Local)
		require.Equal(t, protocol.CloseAbnormal, down.Close)
		require.Equal(t, 5*time.Second, down.Time.Sub(beat))
		g.authenticated()
	})
}

func TestAnyFrameShowsThatTheConnectionLives(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		p := g.authenticated()
		for range 5 {
			nextOf[protocol.Heartbeat](p)
			p.send(sampleEvent("e"))
		}
		p.close(protocol.CloseNormal)
		require.NoError(t, ignoreClose(d.state(client.StateDisconnected)))
	})
}

func ignoreClose(s client.StateChange) error {
	if s.Close == protocol.CloseNormal {
		return nil
	}
	return s.Err
}

func TestSlowHandlerIsNotMistakenForADeadConnection(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g, func(c *client.Config) {
			c.Handler = func(context.Context, protocol.Event) error {
				time.Sleep(time.Minute) // the bubble's time
				return nil
			}
		})
		p := g.authenticated()
		p.flood(200)                  // more than the client's queue holds
		for acked := 0; acked < 60; { // while some still wait outside the queue
			acked += len(nextOf[protocol.Ack](p).EventIDs)
		}
		require.Empty(t, disconnects(d))
	})
}

func disconnects(d *daemon) (found []client.StateChange) {
	for {
		select {
		case s := <-d.states:
			if s.State == client.StateDisconnected {
				found = append(found, s)
			}
		default:
			return found
		}
	}
}

func TestFreshTokenIsSentOnTheSameConnection(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		calls := 0
		start(t, g, func(c *client.Config) {
			c.Resume = func() string { return "p1" }
			c.Token = func(context.Context) (string, error) {
				if calls++; calls == 2 {
					return "", errors.New("login is away")
				}
				return fmt.Sprintf("token-%d", calls), nil
			}
		})
		p := g.authenticated()
		p.send(protocol.TokenExpiring{}, protocol.TokenExpiring{})
		asked := time.Now()
		fresh := nextOf[protocol.Auth](p)
		require.Equal(t, "token-3", fresh.AccessToken)
		require.Nil(t, fresh.Resume)
		require.Equal(t, 5*time.Second, time.Since(asked))

		// Limited: the same again, after the wait.
		p.send(protocol.RateLimit{Action: protocol.ActionMessages, RetryAfter: 3 * time.Second})
		require.Equal(t, "token-4", nextOf[protocol.Auth](p).AccessToken)
		require.Equal(t, 8*time.Second, time.Since(asked))
		p.send(accepted, sampleEvent("e"))
		require.Equal(t, []string{"e"}, nextOf[protocol.Ack](p).EventIDs)
	})
}

func TestRefusedFreshTokenEndsTheConnection(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		p := g.authenticated()
		p.send(protocol.TokenExpiring{})
		nextOf[protocol.Auth](p)
		p.send(protocol.AuthError{Code: protocol.AuthFailed, Message: "no"})
		p.close(protocol.CloseAuthFailed)
		var rejected *client.RejectedError
		require.ErrorAs(t, d.wait(), &rejected)
		require.Equal(t, protocol.AuthFailed, rejected.Code)
	})
}

func TestRateLimitHoldsBackWhatItLimits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T, d *daemon, p *peer){
		"subscribe is sent again": func(t *testing.T, _ *daemon, p *peer) {
			limited := time.Now()
			p.send(protocol.RateLimit{Action: string(protocol.TypeSubscribe), RetryAfter: 4 * time.Second})
			require.Equal(t, []protocol.Pattern{protocol.AllEvents}, nextOf[protocol.Subscribe](p).EventTypes)
			require.Equal(t, 4*time.Second, time.Since(limited))
		},
		"acks wait and go together": func(t *testing.T, _ *daemon, p *peer) {
			limited := time.Now()
			p.send(protocol.RateLimit{Action: string(protocol.TypeAck), RetryAfter: 4 * time.Second}, sampleEvent("a"), sampleEvent("b"))
			require.Equal(t, []string{"a", "b"}, nextOf[protocol.Ack](p).EventIDs)
			require.Equal(t, 4*time.Second, time.Since(limited))
		},
		"heartbeats wait and the connection is not dead": func(t *testing.T, d *daemon, p *peer) {
			nextOf[protocol.Heartbeat](p)
			limited := time.Now()
			p.send(protocol.RateLimit{Action: string(protocol.TypeHeartbeat), RetryAfter: 50 * time.Second})
			nextOf[protocol.Heartbeat](p)
			require.Equal(t, 50*time.Second, time.Since(limited))
			require.Empty(t, disconnects(d))
		},
		"nonsense does not make a flood": func(t *testing.T, _ *daemon, p *peer) {
			limited := time.Now()
			p.send(protocol.RateLimit{})
			nextOf[protocol.Subscribe](p)
			require.Equal(t, time.Second, time.Since(limited))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, g *gateway) {
				d := start(t, g)
				test(t, d, g.authenticated())
			})
		})
	}
}
